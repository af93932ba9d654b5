"""What gateways that cannot reach a backend could tell the others comes too late to help, and takes out what works."""

import pytest

from loadtest.routing.witnesses import CASES, Result, compare

BY_NAME = {case.name: case for case in CASES}


def compared(name: str) -> tuple[Result, Result]:
    return compare(BY_NAME[name], seeds=2)


def test_each_gateway_finds_a_dead_backend_before_others_could_tell_it() -> None:
    alone, told = compared("silent to all, 3 machines: 1 busy, 2 quiet")
    assert alone.requests > 1000
    assert alone.met < 25, "those of two seconds, a quarter of them"
    assert told.met > 0.8 * alone.met


@pytest.mark.parametrize("name", ["lost by 2 of 3, the third quiet", "lost by 5 of 10, the others quiet"])
def test_to_believe_the_others_takes_out_what_works(name: str) -> None:
    alone, told = compared(name)
    assert told.met > 0.8 * alone.met
    assert told.needless > 3 * alone.needless
