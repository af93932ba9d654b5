"""From windows to the figures of one round; arithmetic alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from loadtest.bench.measure import BODIES, BURST, LOW, ONE_CHUNK, PACED, PLAIN, Body, Measurement, Window

CHUNKS = 128
"""Chunks in a stream of the burst and of the paced load."""

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """One gateway's figures in one round; None for what was not measured.

    CPU is in microseconds, memory in KiB, latencies (p50, p99) in milliseconds. `noisy` names the kinds of load during
    which something else was busy.
    """

    plain_us: float | None = None
    one_chunk_us: float | None = None
    chunk_us: float | None = None
    burst_us: float | None = None
    idle_stream_kb: float | None = None
    added_ttft_ms: Pair | None = None
    added_relay_ms: Pair | None = None
    connects_per_10k: float | None = None
    body_us: Mapping[Body, float] = field(default_factory=dict)
    errors: int = 0
    noisy: frozenset[str] = frozenset()


def cpu_us(windows: Iterable[Window], per: str) -> float:
    """Median CPU per `per` (a count of sseload: win_done, win_events), in microseconds."""
    return median(1e6 * window.cpu / max(1, int(window.load[per])) for window in windows)


def relayed_chunk_us(paced_event_us: float, one_chunk_us: float) -> float:
    """CPU of one chunk by itself: a paced stream's, less what a stream costs anyway, over the chunks that remain."""
    return (paced_event_us * CHUNKS - one_chunk_us) / (CHUNKS - 1)


def added_ms(gateway: Window, direct: Window, of: str) -> Pair:
    """What the gateway adds to the p50 and the p99 of `of` (ttft_us, relay_us), in milliseconds."""
    ours, bare = gateway.load[of], direct.load[of]
    return (ours["p50"] - bare["p50"]) / 1000, (ours["p99"] - bare["p99"]) / 1000


def summarize(gateway: Measurement, direct: Measurement) -> Summary:
    """Return the figures of a gateway beside the engine alone."""
    windows = gateway.windows

    def cost(name: str, per: str = "win_done") -> float | None:
        return cpu_us([windows[name]], per) if name in windows else None

    one_chunk, event = cost(ONE_CHUNK.name), cost(PACED.name, "win_events")
    low, bare = windows.get(LOW.name), direct.windows.get(LOW.name)
    bodies = {body: cost(body.scenario.name) for body in BODIES}
    return Summary(
        plain_us=cost(PLAIN.name),
        one_chunk_us=one_chunk,
        chunk_us=None if one_chunk is None or event is None else relayed_chunk_us(event, one_chunk),
        burst_us=cost(BURST.name),
        idle_stream_kb=gateway.idle_stream_kb,
        added_ttft_ms=added_ms(low, bare, "ttft_us") if low and bare else None,
        added_relay_ms=added_ms(low, bare, "relay_us") if low and bare else None,
        connects_per_10k=gateway.connects_per_10k,
        body_us={body: found for body, found in bodies.items() if found is not None},
        errors=sum(int(window.load["errors"]) for window in windows.values()),
        noisy=frozenset(
            name for name, window in windows.items() if window.noisy or (window is low and bare and bare.noisy)
        ),
    )
