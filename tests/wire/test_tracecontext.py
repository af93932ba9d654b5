"""W3C Trace Context: which `traceparent` is believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.tracecontext import TraceContext, parse

GOOD = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_what_is_written_is_read_back(trace_id: int, span_id: int, sampled: bool) -> None:
    written = TraceContext(trace_id, 0, sampled, span_id).traceparent
    assert parse(written) == TraceContext(trace_id, span_id, sampled)


def test_the_specifications_example() -> None:
    found = parse(GOOD)
    assert found == TraceContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, sampled=True)


def test_a_later_version_may_say_more() -> None:
    assert parse(b"01" + GOOD[2:] + b"-what-comes-then") == parse(GOOD)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"00-ab-cd-01",
        GOOD.upper(),
        GOOD + b"-more",
        GOOD + b" ",
        b"ff" + GOOD[2:],
        b"00-" + b"0" * 32 + GOOD[35:],
        GOOD[:36] + b"0" * 16 + b"-01",
        GOOD[:-1] + b"g",
    ],
)
def test_what_is_not_valid_is_nothing(wrong: bytes) -> None:
    assert parse(wrong) is None


@given(st.binary(max_size=80))
def test_no_bytes_do_harm(value: bytes) -> None:
    found = parse(value)
    assert found is None or (found.trace_id and found.parent_id)
