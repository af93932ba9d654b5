"""Changes of a snapshot: what is put at its path again makes the new one of the old."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.changes import Change, changes

values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
)


def changed(before: dict[str, Any], found: list[Change]) -> dict[str, Any]:
    """Return what a viewer makes of changes."""
    after = copy.deepcopy(before)
    for path, value in found:
        within: Any = after
        for each in path[:-1]:
            within = within[each]
        within[path[-1]] = value
    return after


@given(values, values)
def test_a_viewer_that_has_one_makes_the_next_of_it(before: Any, after: Any) -> None:
    assert changed({"x": before}, list(changes(before, after, "x"))) == {"x": after}


def test_only_what_differs_is_told_at_its_place() -> None:
    before = {"a": [{"n": 1, "w": 2}, {"n": 3}], "b": "same", "c": [1, 2], "d": {"x": 1}}
    after = {"a": [{"n": 1, "w": 5}, {"n": 3}], "b": "same", "c": [1], "d": {"y": 1}}
    assert list(changes(before, after)) == [(["a", 0, "w"], 5), (["c"], [1]), (["d"], {"y": 1})]
