"""Which requests leave a trace: as their client decided, else by chance."""

from random import Random

import pytest

from gateway.proxy.tracing import TRACE_HEADERS, TRACEPARENT, Tracing, carried

SAMPLED = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-1] + b"0"


def tracing(ratio: float) -> Tracing:
    return Tracing(ratio, Random(1))


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_client_that_samples_is_followed_whatever_the_ratio(ratio: float) -> None:
    trace, stays, sent = carried(SAMPLED, tracing(ratio))
    assert trace is not None
    assert stays == TRACEPARENT
    assert sent == b"traceparent: %b\r\n" % trace.traceparent
    trace_id, span_id = sent.split(b"-")[1:3]
    assert trace_id == SAMPLED.split(b"-")[1], "it is the same trace"
    assert span_id != SAMPLED.split(b"-")[2], "in a span of the gateway's own"


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_one_that_does_not_sample_is_not_traced_and_its_fields_go_on(ratio: float) -> None:
    assert carried(UNSAMPLED, tracing(ratio)) == (None, frozenset(), b"")


@pytest.mark.parametrize(("ratio", "traced"), [(0.0, 0), (0.25, 250), (1.0, 1000)])
def test_of_the_others_a_share_is_traced(ratio: float, traced: int) -> None:
    chance = tracing(ratio)
    contexts = [carried(None, chance)[0] for _ in range(1000)]
    assert sum(each is not None for each in contexts) == pytest.approx(traced, abs=50)
    ids = {each.trace_id for each in contexts if each is not None}
    assert len(ids) == sum(each is not None for each in contexts)


def test_what_is_no_traceparent_does_not_go_on_and_nor_does_its_state() -> None:
    assert carried(b"nonsense", None) == (None, TRACE_HEADERS, b"")
    trace, stays, sent = carried(b"nonsense", tracing(1.0))
    assert trace is not None
    assert stays == TRACE_HEADERS
    assert sent.startswith(b"traceparent: 00-")


def test_a_gateway_that_does_not_trace_passes_everything_on() -> None:
    assert carried(SAMPLED, None) == carried(None, None) == (None, frozenset(), b"")
