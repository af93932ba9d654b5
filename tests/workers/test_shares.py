"""Which worker accepts from which sockets: no socket is ever without one."""

from itertools import combinations

import pytest

from gateway.workers.roster import shares


@pytest.mark.parametrize(("sockets", "places"), [(1, 1), (1, 4), (2, 2), (4, 4), (4, 2), (5, 3), (2, 5)])
def test_each_socket_has_a_worker_and_each_worker_a_socket_whoever_serves(sockets: int, places: int) -> None:
    for count in range(1, places + 1):
        for serving in combinations(range(places), count):
            found = shares(sockets, serving, places)
            assert found.keys() == set(serving)
            assert all(found.values())
            assert set().union(*found.values()) == set(range(sockets))


def test_a_worker_keeps_its_own_socket_and_takes_those_of_the_dead() -> None:
    assert shares(4, range(4), 4) == {each: frozenset({each}) for each in range(4)}
    assert shares(4, [0, 1, 3], 4) == {0: frozenset({0}), 1: frozenset({1}), 3: frozenset({3, 2})}


def test_one_socket_is_shared_by_all() -> None:
    assert shares(1, range(3), 3) == {each: frozenset({0}) for each in range(3)}
