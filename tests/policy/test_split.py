"""Sharing requests among versions: in proportion, and moving as few keys as possible."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.canary.split import Split

weights = st.lists(st.floats(0, 100), min_size=1, max_size=6).filter(lambda each: sum(each) > 1e-6)


@given(weights, st.floats(0, 1, exclude_max=True))
def test_a_version_without_weight_is_never_drawn(shares: list[float], chance: float) -> None:
    split = Split(list(enumerate(shares)))
    assert shares[split.draw(chance)] > 0


@given(weights)
def test_versions_are_drawn_in_proportion(shares: list[float]) -> None:
    split = Split(list(enumerate(shares)))
    steps = 2000
    drawn = Counter(split.draw((step + 0.5) / steps) for step in range(steps))
    for version, share in enumerate(shares):
        assert drawn[version] / steps == pytest.approx(share / sum(shares), abs=2 / steps)


@pytest.mark.parametrize("shares", [[], [0.0], [1.0, -1.0]])
def test_a_split_without_any_weight_is_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Split(list(enumerate(shares)))


@given(weights)
def test_shares_are_those_that_are_drawn(shares: list[float]) -> None:
    told = dict(Split(list(enumerate(shares))).shares())
    assert sum(told.values()) == pytest.approx(1.0)
    for version, share in told.items():
        assert share == pytest.approx(shares[version] / sum(shares), abs=1e-6)


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=5), st.integers(0, 4), st.floats(0.1, 100))
def test_raising_a_weight_moves_keys_to_that_version_and_nowhere_else(
    shares: list[float], which: int, more: float
) -> None:
    which %= len(shares)
    raised = [share + more * (place == which) for place, share in enumerate(shares)]
    before, after = Split(list(enumerate(shares))), Split(list(enumerate(raised)))
    for key in range(200):
        old, new = before.place(b"%d" % key), after.place(b"%d" % key)
        assert new in {old, which}


def test_keys_fall_in_proportion_and_otherwise_for_other_names() -> None:
    split = Split([("v1", 95.0), ("v2", 5.0)], ["m/v1", "m/v2"])
    other = Split([("v1", 95.0), ("v2", 5.0)], ["n/v1", "n/v2"])
    keys = [b"tenant-%d" % number for number in range(20_000)]
    on_candidate = {key for key in keys if split.place(key) == "v2"}
    assert len(on_candidate) / len(keys) == pytest.approx(0.05, abs=0.006)
    elsewhere = {key for key in keys if other.place(key) == "v2"}
    assert len(on_candidate & elsewhere) < 0.2 * len(on_candidate), "nobody is always the first to try what is new"


def test_a_tenant_on_the_candidate_stays_there_while_it_grows() -> None:
    steps = [Split([("v1", 100.0 - step), ("v2", step)], ["m/v1", "m/v2"]) for step in (1.0, 5.0, 25.0, 50.0, 100.0)]
    moved: set[bytes] = set()
    for split in steps:
        here = {b"%d" % key for key in range(2000) if split.place(b"%d" % key) == "v2"}
        assert moved <= here
        moved = here
    assert len(moved) == 2000


def test_a_single_version_needs_no_key() -> None:
    split = Split([("v1", 1.0), ("v2", 0.0)])
    assert (split.is_single, split.place(b"any"), split.draw(0.9)) == (True, "v1", "v1")
