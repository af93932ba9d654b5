"""When machines tell each other what they charged, and what each takes while it hears nothing."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.admission.fleet_quota import Part, urgent_after

USED = st.tuples(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))


@given(st.integers(1, 1_000_000), st.floats(-1e6, 1e6), st.integers(2, 1000))
def test_what_all_may_charge_untold_is_little_of_the_limit_or_of_what_is_left(
    size: int, level: float, processes: int
) -> None:
    untold = urgent_after(size, level, processes)
    assert untold >= 1.0
    assert untold == 1.0 or untold * processes <= max(size / 99.0, level / 3.9)


def test_one_that_is_alone_tells_none_at_once() -> None:
    assert urgent_after(60, 0.0, 1) == inf


@given(st.lists(USED, max_size=10), st.integers(1, 100))
def test_a_part_is_never_less_than_an_even_one(used: list[tuple[float, float, float]], processes: int) -> None:
    part = Part()
    for own, others, elapsed in used:
        part.add(own, others, elapsed)
    assert 1.0 / processes <= part.of(processes) <= 1.0


@given(st.lists(st.tuples(st.lists(st.floats(0, 10), min_size=3, max_size=3), st.floats(0, 100)), max_size=10))
def test_parts_together_are_less_than_twice_the_limit(rounds: list[tuple[list[float], float]]) -> None:
    parts = [Part() for _ in range(3)]
    for used, elapsed in rounds:
        for part, own in zip(parts, used, strict=True):
            part.add(own, sum(used) - own, elapsed)
    assert sum(part.of(3) for part in parts) < 2.0


def test_a_part_follows_what_was_used_in_the_last_minutes() -> None:
    part = Part()
    for _ in range(60):
        part.add(0.9, 0.1, 1.0)
    assert round(part.of(3), 2) == 0.9
    for _ in range(300):
        part.add(0.0, 1.0, 1.0)
    assert part.of(3) == 1.0 / 3.0
    part.add(-5.0, -5.0, -1.0)
    assert part.of(1) == 1.0
    assert "of" in repr(part)
