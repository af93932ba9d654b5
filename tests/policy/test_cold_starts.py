"""When a pool without an engine is woken, for how long that is hoped for, and what requests are told meanwhile."""

from gateway.policy.routing.pool_state import PoolState
from gateway.policy.routing.waking import FROM_ZERO, PAUSE, ScaleFromZero, Waking, Way

SOON = ScaleFromZero(max_held=2, hold=60.0)


def woken(settings: ScaleFromZero, now: float) -> Waking:
    """A pool without an engine whose first request has just had it woken."""
    waking = Waking(settings)
    waking.hold()
    assert waking.tick(now, ready=False)
    return waking


def test_the_first_request_has_the_pool_woken_and_the_next_ones_do_not() -> None:
    waking = Waking(FROM_ZERO)
    assert not waking.tick(0.0, ready=False)
    waking.hold()
    waking.hold()
    assert waking.tick(10.0, ready=False)
    assert waking.tick(12.0, ready=False)
    assert (waking.begun, waking.since, waking.held) == (1, 10.0, 2)
    assert repr(waking) == "<Waking 2 held since 10.0>"


def test_a_wake_is_over_when_an_engine_is_there() -> None:
    waking = woken(SOON, 10.0)
    assert not waking.tick(40.0, ready=True)
    assert (waking.served, waking.took, waking.since) == (1, 30.0, None)
    waking.let_go()
    assert not waking.tick(41.0, ready=False)
    assert repr(waking) == "<Waking 0 held>"


def test_an_engine_is_wanted_for_a_while_although_nobody_waits_any_more() -> None:
    waking = woken(SOON, 0.0)
    waking.let_go()
    assert waking.tick(60.0, ready=False)
    assert not waking.tick(60.1, ready=False)
    assert waking.failed == 1


def test_a_wake_in_vain_is_followed_by_a_pause_in_which_requests_are_refused() -> None:
    waking = woken(SOON, 0.0)
    waking.let_go()
    assert not waking.rests(60.0)
    waking.tick(61.0, ready=False)
    assert waking.rests(61.0)
    assert waking.retry_after(61.0) == int(PAUSE)
    assert not waking.rests(61.0 + PAUSE)


def test_requests_that_still_wait_after_a_wake_in_vain_have_another_one_begin() -> None:
    waking = woken(SOON, 0.0)
    waking.hold()
    assert waking.tick(61.0, ready=False)
    assert (waking.begun, waking.failed, waking.since) == (2, 1, 61.0)


def test_a_request_that_a_ready_engine_took_no_connection_of_has_none_woken() -> None:
    waking = Waking(SOON)
    waking.hold()
    waking.no_connection(0.0)
    assert not waking.tick(0.2, ready=True)
    assert waking.begun == 0
    assert waking.tick(1.0, ready=False), "it is not ready: it has gone"


def test_an_engine_that_only_passes_its_probes_ends_no_wake() -> None:
    waking = woken(SOON, 0.0)
    for second in range(1, 61):
        waking.no_connection(float(second))
        assert waking.tick(second + 0.5 if second < 60 else 60.0, ready=second % 3 > 0)
    assert not waking.tick(61.0, ready=True)
    assert (waking.begun, waking.served, waking.failed) == (1, 0, 1)
    assert not waking.tick(62.0, ready=True)
    assert waking.begun == 1


def test_an_engine_that_takes_connections_after_all_ends_the_wake() -> None:
    waking = woken(SOON, 0.0)
    waking.no_connection(10.0)
    assert waking.tick(20.0, ready=True)
    assert not waking.tick(10.0 + PAUSE, ready=True)
    assert waking.served == 1


def test_so_many_are_held_and_others_are_told_when_the_last_wake_would_be_over() -> None:
    waking = Waking(SOON)
    assert waking.retry_after(0.0) == 1
    waking = woken(SOON, 0.0)
    waking.tick(45.0, ready=True)
    waking.let_go()
    assert waking.retry_after(50.0) == 45
    waking.hold()
    waking.tick(100.0, ready=False)
    assert not waking.is_full
    waking.hold()
    assert waking.is_full
    assert waking.retry_after(110.0) == 35
    assert waking.retry_after(159.5) == 31, "it is about to be in vain, and then requests are refused for a while"


def test_before_the_first_wake_the_warm_up_of_the_pool_says_how_long_one_takes() -> None:
    waking = woken(ScaleFromZero(hold=300.0, warm_up=40.0), 0.0)
    assert waking.retry_after(10.0) == 30
    assert waking.retry_after(60.0) == 30, "one that takes longer is not over in a moment"


def test_an_engine_that_alone_can_serve_a_request_is_preferred_until_the_wake_is_over() -> None:
    waking = woken(SOON, 0.0)
    waking.hold("gpu/one:8000")
    waking.hold()
    assert waking.preferred == "gpu/one:8000"
    waking.tick(3.0, ready=True)
    assert waking.preferred == ""


def test_the_url_of_a_webhook_is_not_shown() -> None:
    assert "secret" not in repr(ScaleFromZero(way=Way.WEBHOOK, webhook="https://host/secret"))


def test_a_reload_changes_how_a_pool_is_woken_and_forgets_no_wake() -> None:
    peers = PoolState("gpu", 0.0)
    peers.follow(["gpu/a"], scale_from_zero=FROM_ZERO)
    waking = peers.waking
    assert waking is not None
    waking.hold()
    waking.tick(10.0, ready=False)
    peers.follow(["gpu/a"], scale_from_zero=SOON)
    assert peers.waking is waking
    assert (waking.settings, waking.since, waking.held) == (SOON, 10.0, 1)
    peers.follow(["gpu/a"])
    assert peers.waking is None
