"""Reading an engine's own metrics: a few wanted lines out of hundreds, under the names that vLLM uses or used."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, nan

_NAMES = (
    b"num_requests_running",
    b"num_requests_waiting",
    b"kv_cache_usage_perc",
    b"gpu_cache_usage_perc",
    b"cache_config_info",
    b"num_preemptions_total",
    b"generation_tokens_total",
    b"prefix_cache_queries_total",
    b"prefix_cache_hits_total",
    b"gpu_prefix_cache_queries_total",
    b"gpu_prefix_cache_hits_total",
    b"lora_requests_info",
    b"engine_sleep_state",
)
_LINE = re.compile(
    rb"^vllm:(" + rb"|".join(_NAMES) + rb')(?:\{((?:[^"}\n]|"(?:[^"\\\n]|\\.)*+")*+)\})?[ \t]+([^ \t\n]+)', re.MULTILINE
)
_LABEL = re.compile(rb'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*+)"')
_MOST_REQUESTS = 1_000_000
_MOST_COUNTED = 2**53
_MOST_TOKENS = 10**12
_FULL = 1.01
"""A full cache, with what a sum of shares may be off."""


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """What an engine says of itself, summed over its data-parallel ranks.

    None is what it does not expose, or what cannot be: below 0, not finite, or beyond all bounds.

    `kv_usage` is the share of the KV cache in use, 0 to 1, the mean over ranks; `kv_capacity` and
    what was `generated` since its start are in tokens.
    """

    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    kv_capacity: int | None = None
    preemptions: float | None = None
    prefix_queries: float | None = None
    prefix_hits: float | None = None
    adapters: tuple[str, ...] | None = None
    sleeping: bool | None = None
    generated: float | None = None

    @property
    def progress(self) -> tuple[float | None, ...]:
        """What changes from step to step of an engine at work, and only then: a long prompt fills the KV cache."""
        return (self.generated, self.kv_usage, self.preemptions, self.prefix_queries)


@dataclass(frozen=True, slots=True)
class Sample:
    """One wanted line: the name without `vllm:`, its labels as they stand, and its value."""

    name: str
    labels: bytes
    value: float


def samples(body: bytes) -> Iterator[Sample]:
    """Return the wanted lines of an exposition, in order; what is no number is NaN."""
    for name, labels, text in _LINE.findall(body):
        try:
            value = float(text)
        except ValueError:
            value = nan
        yield Sample(name.decode(), labels, value)


def extract(body: bytes) -> EngineMetrics:
    """Return what an exposition says. One pass of one pattern: a full parse would cost tens of milliseconds."""
    found: dict[str, list[Sample]] = {}
    for sample in samples(body):
        found.setdefault(sample.name, []).append(sample)

    usage = _values(found, "kv_cache_usage_perc", "gpu_cache_usage_perc", most=_FULL)
    return EngineMetrics(
        running=_total(found, "num_requests_running", most=_MOST_REQUESTS),
        waiting=_total(found, "num_requests_waiting", most=_MOST_REQUESTS),
        kv_usage=min(1.0, sum(usage) / len(usage)) if usage else None,
        kv_capacity=_capacity(found.get("cache_config_info", [])),
        preemptions=_total(found, "num_preemptions_total"),
        prefix_queries=_total(found, "prefix_cache_queries_total", "gpu_prefix_cache_queries_total"),
        prefix_hits=_total(found, "prefix_cache_hits_total", "gpu_prefix_cache_hits_total"),
        adapters=_adapters(found.get("lora_requests_info")),
        sleeping=_sleeping(found.get("engine_sleep_state")),
        generated=_total(found, "generation_tokens_total"),
    )


def _values(found: dict[str, list[Sample]], *names: str, most: float) -> list[float]:
    rows = next((found[name] for name in names if name in found), [])
    # One rank that tells nonsense makes the sum unknown: without it the sum would be too small.
    return [row.value for row in rows] if all(0 <= row.value <= most for row in rows) else []


def _total(found: dict[str, list[Sample]], *names: str, most: float = _MOST_COUNTED) -> float | None:
    told = _values(found, *names, most=most)
    return sum(told) if told else None


def _capacity(rows: list[Sample]) -> int | None:
    """Each rank's series tells the blocks of all ranks together (vLLM's `core_client.py` adds them up)."""
    sizes = []
    for row in rows:
        labels = _labels(row)
        try:
            blocks, size = int(labels[b"num_gpu_blocks"]), int(labels[b"block_size"])
        except (KeyError, ValueError):
            return None
        if blocks <= 0 or not 0 < blocks * size <= _MOST_TOKENS:
            return None
        sizes.append(blocks * size)
    return max(sizes, default=None)


def _adapters(rows: list[Sample] | None) -> tuple[str, ...] | None:
    """Return the adapters of the newest series; the value of each series is the time at which it was written."""
    told = [row for row in rows or () if isfinite(row.value)]
    if not told:
        return None
    latest = max(told, key=lambda row: row.value)
    names = _labels(latest).get(b"running_lora_adapters", b"").decode(errors="replace")
    return tuple(sorted(filter(None, names.split(","))))


def _sleeping(rows: list[Sample] | None) -> bool | None:
    if not rows:
        return None
    return any(row.value == 1 and _labels(row).get(b"sleep_state", b"awake") != b"awake" for row in rows)


def _labels(sample: Sample) -> dict[bytes, bytes]:
    return dict(_LABEL.findall(sample.labels))
