"""Endpoints that vanish are kept until a later list lacks them, too; those that terminated first are not."""

from gateway.discovery.kubernetes.endpoints import Found
from gateway.discovery.kubernetes.settling import Settling
from gateway.discovery.target import Target, TargetState

HOLD = 2.0


def target(key: str, address: str = "", state: TargetState = TargetState.READY) -> Target:
    return Target(key, address or f"10.0.0.{ord(key)}", 8000, state=state)


def found(*targets: Target, unready: str = "") -> Found:
    return Found({each.key: each for each in targets}, frozenset(unready))


P, Q = target("p"), target("q")


def test_what_is_found_is_told_in_order() -> None:
    assert Settling(HOLD).settle(found(Q, P), 0.0, 0.0) == (P, Q)


def test_what_has_not_changed_is_the_same_tuple() -> None:
    settling = Settling(HOLD)
    first = settling.settle(found(P, Q), 0.0, 0.0)
    assert settling.settle(found(target("q"), target("p")), 1.0, 0.0) is first


def test_one_that_vanished_is_kept_until_a_list_that_is_late_enough() -> None:
    settling = Settling(HOLD)
    settling.settle(found(P, Q), 0.0, 0.0)
    assert settling.settle(found(Q), 10.0, 0.0) == (P, Q)
    assert settling.waits
    assert settling.settle(found(Q), 10.0 + 100 * HOLD, 0.0) == (P, Q), "time alone says nothing of the API server"
    assert settling.settle(found(Q), 13.0, 9.9 + HOLD) == (P, Q), "that list may have been read amid a move"
    assert settling.settle(found(Q), 13.0, 10.0 + HOLD) == (Q,)
    assert not settling.waits


def test_one_that_comes_back_is_as_before() -> None:
    settling = Settling(HOLD)
    settling.settle(found(P), 0.0, 0.0)
    settling.settle(found(), 10.0, 0.0)
    assert settling.settle(found(P), 10.1, 0.0) == (P,)
    assert not settling.waits
    assert settling.settle(found(), 20.0, 11.0 + HOLD) == (P,), "it vanished again, and later"


def test_one_that_terminated_goes_at_once() -> None:
    settling = Settling(HOLD)
    settling.settle(found(P), 0.0, 0.0)
    leaving = target("p", state=TargetState.DRAINING)
    assert settling.settle(found(leaving), 1.0, 0.0) == (leaving,)
    assert settling.settle(found(), 2.0, 0.0) == ()
    assert not settling.waits


def test_so_does_one_that_terminated_between_two_looks() -> None:
    settling = Settling(HOLD)
    pod, bare = Target("uid:8000", "10.0.0.1", 8000), Target("[fd00::2]:8000", "fd00::2", 8000)
    settling.settle(found(pod, bare, Q), 0.0, 0.0)
    settling.ending(["uid", "[fd00::2]"])
    assert settling.settle(found(Q), 1.0, 0.0) == (Q,)
    assert not settling.waits


def test_that_it_was_not_ready_once_counts_until_the_next_look() -> None:
    settling = Settling(HOLD)
    pod = Target("uid:8000", "10.0.0.1", 8000)
    settling.settle(found(pod), 0.0, 0.0)
    settling.ending(["uid"])
    settling.settle(found(pod), 1.0, 0.0)
    assert settling.settle(found(), 2.0, 0.0) == (pod,), "it was back, and vanished later"


def test_one_that_is_not_ready_goes_at_once() -> None:
    settling = Settling(HOLD)
    settling.settle(found(P), 0.0, 0.0)
    assert settling.settle(found(unready="p"), 1.0, 0.0) == ()
    assert settling.settle(found(), 2.0, 0.0) == ()


def test_all_may_go() -> None:
    settling = Settling(HOLD)
    settling.settle(found(P, Q), 0.0, 0.0)
    assert settling.settle(found(), 1.0, 0.0) == (P, Q)
    assert settling.settle(found(), 1.0 + HOLD, 1.0 + HOLD) == ()


def test_an_address_that_is_used_again_is_of_the_new_pod() -> None:
    settling = Settling(HOLD)
    settling.settle(found(P), 0.0, 0.0)
    new = target("q", address=P.host)
    assert settling.settle(found(new), 1.0, 0.0) == (new,)
    assert not settling.waits


def test_an_address_is_of_the_pod_that_is_ready() -> None:
    old, new = target("p", "10.0.0.1", TargetState.DRAINING), target("q", "10.0.0.1")
    for both in ((old, new), (new, old)):
        assert Settling(HOLD).settle(found(*both), 0.0, 0.0) == (new,)
