"""Long bodies, cut wherever a test says."""

import itertools

from hypothesis import strategies as st

from gateway.wire.rope import Rope

cuts = st.lists(st.integers(0, 400), max_size=8)


def rope(raw: bytes, *cuts: int) -> Rope:
    """Return a rope that is cut at these places."""
    ends = sorted({min(cut, len(raw)) for cut in cuts} | {0, len(raw)})
    return Rope(raw[start:end] for start, end in itertools.pairwise(ends))
