"""Whether a backend is at work, as what it did of late shows."""

from gateway.policy.routing.activity import Activity
from tests.policy.test_health import pool


def test_one_that_was_idle_gets_a_moment_to_show_that_it_works_until_it_refused_everything() -> None:
    (health,) = pool(1)[1]
    activity = health.activity
    assert not activity.begins(100.0)
    first, second = health.lease(10, now=100.0), health.lease(10, now=105.0)
    assert activity.begins(105.0)
    assert not activity.begins(110.1), "asked ten seconds ago"
    first.release()
    assert activity.begins(109.0), "it still has one"
    second.release()
    assert activity.begins(109.0), "it gave nothing, and refused nothing"

    lease = health.lease(10, now=120.0)
    activity.backoff.refused(121.0, None, busy=True)
    lease.release()
    again = health.lease(10, now=130.0)
    assert not activity.begins(130.0), "it refused all the last time"
    activity.began(131.0, 1.0)
    again.release()
    health.lease(10, now=140.0)
    assert activity.begins(141.0)


def test_the_quickest_first_token_of_late_is_known() -> None:
    activity = Activity()
    assert activity.quickest.seconds == float("inf")
    for now, ttft, quickest in ((0.0, 2.0, 2.0), (1.0, 1.0, 1.0), (2.0, 3.0, 1.0), (30.0, 5.0, 1.0), (61.0, 4.0, 4.0)):
        activity.began(now, ttft)
        assert activity.quickest.seconds == quickest
    assert repr(activity.quickest) == "<QuickestTtft 4.000 s>"


def test_what_waits_in_vain_adds_up_until_the_backend_works() -> None:
    activity = Activity()
    for since, now, worked_at, answers, expected in (
        (10.0, 15.0, -1.0, 100, (5.0, 0)),
        (12.0, 17.0, -1.0, 103, (7.0, 3)),  # beside the other: no second counts twice
        (16.5, 16.9, -1.0, 104, (7.0, 4)),
        (100.0, 105.0, -1.0, 90, (12.0, 0)),  # nothing was asked between; a peer has left the pool
        (110.0, 115.0, 112.0, 110, (3.0, 0)),
        (112.0, 117.0, 112.0, 111, (5.0, 1)),
    ):
        assert activity.vain.add(since, now, worked_at=worked_at, answers=answers) == expected
    assert repr(activity.vain) == "<VainWait 5.0 s>"
