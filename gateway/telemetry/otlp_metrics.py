"""Histograms in OTLP's protobuf, written by hand as spans are.

Field numbers are those of `opentelemetry/proto/metrics/v1/metrics.proto`. Fields are written in the order of their
numbers, as protobuf's own library does, so that a test can compare bytes.
"""

from collections.abc import Iterable
from struct import pack
from typing import Final

from gateway.telemetry.histogram import Histogram
from gateway.telemetry.otlp import delimited

_SECONDS: Final = delimited(b"\x1a", b"s")
_SINCE_THE_START: Final = b"\x10\x02"
"""The temporality: counts are since a start that each point tells."""


def point(histogram: Histogram, attributes: bytes, start: int, now: int) -> bytes:
    """Return a histogram as one data point; times are in nanoseconds since the epoch."""
    counts, bounds = histogram.counts, histogram.bounds
    count = sum(counts)
    return delimited(
        b"\x0a",
        pack("<BQBQBQBd", 0x11, start, 0x19, now, 0x21, count, 0x29, histogram.total)
        + delimited(b"\x32", pack(f"<{len(counts)}Q", *counts))
        + delimited(b"\x3a", pack(f"<{len(bounds)}d", *bounds))
        + attributes,
    )


def metric(name: str, description: str, points: Iterable[bytes]) -> bytes:
    """Return a metric of histograms of seconds, as a field of ScopeMetrics."""
    histograms = delimited(b"\x4a", b"".join(points) + _SINCE_THE_START)
    words = delimited(b"\x0a", name.encode()) + delimited(b"\x12", description.encode())
    return delimited(b"\x12", words + _SECONDS + histograms)
