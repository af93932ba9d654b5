"""Which targets are backends, for any order of what an origin tells."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from gateway.discovery.membership import LINGER, MOST_GONE, Membership
from gateway.discovery.target import Target, TargetState

READY, DRAINING = TargetState.READY, TargetState.DRAINING


def target(key: str, host: str | None = None, **more: object) -> Target:
    return Target(key, host or key, 8000, **more)  # type: ignore[arg-type]


def keys(targets: Iterable[Target]) -> list[str]:
    return [each.key for each in targets]


def test_one_that_is_gone_is_kept_without_requests_and_comes_back_as_it_was() -> None:
    members = Membership()
    assert members.take([target("a"), target("b")], 0.0)
    assert not members.take([target("b"), target("a")], 1.0), "the order says nothing"
    assert members.take([target("a")], 2.0)
    assert (keys(members.targets), members.gone) == (["a"], [target("b", state=DRAINING)])
    assert repr(members) == "<Membership of 1 targets, 1 gone>"
    assert members.take([target("a"), target("b")], 3.0)
    assert (keys(members.targets), members.gone, members.confirmed_at) == (["a", "b"], [], 3.0)


def test_one_that_is_gone_is_forgotten_once_it_is_idle_and_some_time_has_passed() -> None:
    members = Membership()
    members.take([target("a"), target("b")], 0.0)
    members.take([], 10.0)
    assert not members.forget((), 10.0 + LINGER - 0.1)
    assert members.forget({"b"}, 10.0 + LINGER)
    assert keys(members.gone) == ["b"], "it has requests"
    assert members.forget((), 1e6)
    assert members.gone == []


def test_another_engine_at_the_address_of_one_that_is_gone_takes_its_place_at_once() -> None:
    members = Membership()
    members.take([target("uid-1", "10.0.0.1")], 0.0)
    members.take([target("uid-2", "10.0.0.1")], 1.0)
    assert (keys(members.targets), members.gone) == (["uid-2"], [])


def test_of_several_at_one_address_or_of_one_key_one_counts_if_need_be_the_one_that_is_ready() -> None:
    members = Membership()
    members.take([target("a", "h", state=DRAINING), target("b", "h"), target("b", "other")], 0.0)
    assert members.targets == [target("b", "h")]


def test_what_comes_and_goes_all_the_time_does_not_pile_up() -> None:
    members = Membership()
    for turn in range(1_000):
        members.take([target(f"{turn}-{each}") for each in range(10)], float(turn) / 100)
        members.forget((), float(turn) / 100)
        assert len(members.gone) <= MOST_GONE
    assert keys(members.gone)[-1].startswith("998-"), "what has been gone for longest is forgotten first"


TOLD = st.lists(st.tuples(st.sets(st.sampled_from("abcde")), st.floats(0.0, 100.0), st.sets(st.sampled_from("abcde"))))


@given(TOLD)
def test_what_the_origin_named_last_is_there_and_nothing_busy_is_forgotten(
    told: list[tuple[set[str], float, set[str]]],
) -> None:
    members, now, named, kept = Membership(), 0.0, set[str](), set[str]()
    for present, seconds, busy in told:
        now += seconds
        members.take([target(each) for each in present], now)
        kept |= named | present
        named = present
        assert set(keys(members.targets)) == present
        assert not set(keys(members.gone)) & present
        assert all(each.state is DRAINING for each in members.gone)
        gone = set(keys(members.gone))
        members.forget(busy, now)
        assert gone & busy <= set(keys(members.gone)) <= gone <= kept
