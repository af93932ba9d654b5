"""Metric families as text: what prometheus_client would write, byte for byte."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics_latest
from prometheus_client.registry import CollectorRegistry

from gateway.telemetry.families import Family, HistogramFamily, Piece, negotiate, number, rendered
from gateway.telemetry.histogram import Histogram
from gateway.wire.slices import finish

LABELS = ("model", "zone", "le_not", "a")
TEXT = 'What "it" is: a\\b.'
NUMBERS = st.one_of(st.floats(), st.integers(0, 10**18), st.booleans())
VALUES = st.tuples(*[st.text()] * len(LABELS))
SECONDS = st.lists(st.floats(0, 100), max_size=20)


class Ours:
    """Some samples as this gateway tells them."""

    def __init__(self, samples: list[tuple[tuple[str, ...], float]], histogram: Histogram) -> None:
        self._samples, self._histogram = samples, histogram

    def collect(self) -> Iterator[Piece]:
        for kind in ("counter", "gauge"):
            family = Family(kind, f"x_{kind}", TEXT, LABELS)
            for labels, value in self._samples:
                family.add(labels, value)
                yield None
            yield family
        plain = Family("gauge", "x_plain", TEXT)
        plain.add((), 3)
        yield plain
        for name, names in (("x_seconds", LABELS), ("x_bare_seconds", ())):
            histogram = HistogramFamily(name, TEXT, names)
            for labels, _ in self._samples if names else [((), 0.0)]:
                histogram.add_histogram(labels, self._histogram)
            yield histogram


class Theirs:
    """The same samples as prometheus_client has them."""

    def __init__(self, samples: list[tuple[tuple[str, ...], float]], histogram: Histogram) -> None:
        self._samples, self._histogram = samples, histogram

    def collect(self) -> Iterator[Metric]:
        counter = CounterMetricFamily("x_counter", TEXT, labels=LABELS)
        gauge = GaugeMetricFamily("x_gauge", TEXT, labels=LABELS)
        for labels, value in self._samples:
            counter.add_metric(labels, value)
            gauge.add_metric(labels, value)
        yield from (counter, gauge, GaugeMetricFamily("x_plain", TEXT, 3))
        seconds = HistogramMetricFamily("x_seconds", TEXT, labels=LABELS)
        bare = HistogramMetricFamily("x_bare_seconds", TEXT, labels=())
        for labels, _ in self._samples:
            seconds.add_metric(labels, self._histogram.cumulative(), self._histogram.total)
        bare.add_metric((), self._histogram.cumulative(), self._histogram.total)
        yield from (seconds, bare)


@given(st.lists(st.tuples(VALUES, NUMBERS), max_size=5), SECONDS)
def test_the_text_is_that_of_prometheus_client(
    samples: list[tuple[tuple[str, ...], float]], seconds: list[float]
) -> None:
    histogram = Histogram((0.005, 1.0, 2.5))
    for each in seconds:
        histogram.observe(each)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Theirs(samples, histogram))
    ours = Ours(samples, histogram)
    assert b"".join(finish(rendered([ours], open_metrics=False))) == generate_latest(registry)
    assert b"".join(finish(rendered([ours], open_metrics=True))) + b"# EOF\n" == open_metrics_latest(registry)


def test_many_samples_become_several_blocks() -> None:
    family = Family("gauge", "x", "Text.", ("n",))
    for each in range(1_000):
        family.add((str(each),), each)
    blocks = family.blocks(open_metrics=False)
    assert len(blocks) == 5
    assert b"".join(blocks).count(b"\n") == 1_002


def test_large_numbers_are_written_as_go_writes_them() -> None:
    assert [number(each) for each in (0, 7, True, 0.1, 999_999, 1e6, 12_345_678, 1e21)] == [
        *("0.0", "7.0", "1.0", "0.1", "999999.0", "1e+06", "1.2345678e+07", "1e+21")
    ]


@pytest.mark.parametrize(
    ("accept", "is_open"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8,text/plain;q=0.5", True),
    ],
)
def test_who_asks_gets_the_format_that_prometheus_client_would_choose(accept: str, *, is_open: bool) -> None:
    assert negotiate(accept) == (is_open, choose_encoder(accept)[1])


def test_names_need_no_escaping_in_whatever_way() -> None:
    _, content_type = negotiate("application/openmetrics-text;version=1.0.0;escaping=dots")
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
