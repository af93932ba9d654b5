"""From windows to the figures that are reported; arithmetic alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from loadtest.bench.measure import BURST, LOW, ONE_CHUNK, PACED, PLAIN, Measurement, Window

CHUNKS = 128
"""Chunks in a stream of the burst and of the paced load."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One gateway's figures: CPU in microseconds, memory in KiB, latencies (p50, p99) in milliseconds."""

    name: str
    plain_us: float
    one_chunk_us: float
    chunk_us: float
    burst_us: float
    idle_stream_kb: float
    added_ttft_ms: tuple[float, float]
    added_relay_ms: tuple[float, float]
    connects_per_10k: float
    errors: int
    noisy: int


def cpu_us(windows: Iterable[Window], per: str) -> float:
    """Median CPU per `per` (a count of sseload: win_done, win_events), in microseconds."""
    return median(1e6 * window.cpu / max(1, int(window.load[per])) for window in windows)


def relayed_chunk_us(paced_event_us: float, one_chunk_us: float) -> float:
    """CPU of one chunk by itself: a paced stream's, less what a stream costs anyway, over the chunks that remain."""
    return (paced_event_us * CHUNKS - one_chunk_us) / (CHUNKS - 1)


def median_of(values: Iterable[float]) -> float:
    """The median of figures of several runs."""
    return median(values)


def latency_ms(windows: Iterable[Window], of: str) -> tuple[float, float]:
    """Medians over the windows of p50 and of p99 of `of` (ttft_us, relay_us), in milliseconds."""
    found = [window.load[of] for window in windows]
    return median(each["p50"] for each in found) / 1000, median(each["p99"] for each in found) / 1000


def summarize(gateway: Measurement, direct: Measurement) -> Summary:
    """Raises KeyError when a scenario is missing from either."""
    windows = gateway.windows
    every = [window for group in windows.values() for window in group]
    one_chunk = cpu_us(windows[ONE_CHUNK.name], "win_done")

    def added(of: str) -> tuple[float, float]:
        ours, bare = (latency_ms(each.windows[LOW.name], of) for each in (gateway, direct))
        return ours[0] - bare[0], ours[1] - bare[1]

    return Summary(
        name=gateway.name,
        plain_us=cpu_us(windows[PLAIN.name], "win_done"),
        one_chunk_us=one_chunk,
        chunk_us=relayed_chunk_us(cpu_us(windows[PACED.name], "win_events"), one_chunk),
        burst_us=cpu_us(windows[BURST.name], "win_done"),
        idle_stream_kb=gateway.idle_stream_kb or 0.0,
        added_ttft_ms=added("ttft_us"),
        added_relay_ms=added("relay_us"),
        connects_per_10k=gateway.connects_per_10k or 0.0,
        errors=sum(int(window.load["errors"]) for window in every),
        noisy=sum(window.noisy for window in every),
    )
