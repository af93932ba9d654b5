"""Reading an engine's own metrics: a few wanted lines out of hundreds, under the names that vLLM uses or used."""

import re
from dataclasses import dataclass
from math import isfinite, nan
from typing import Final

_NAMES: Final[tuple[bytes, ...]] = (
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
# It begins with fixed bytes: `re` searches for these far faster than for the beginning of any line.
_LINE: Final = re.compile(
    rb"\nvllm:(" + rb"|".join(_NAMES) + rb')(?:\{((?:[^"}\n]++|"(?:[^"\\\n]++|\\.)*+")*+)\})?[ \t]+([^ \t\n]+)'
)
_LABEL: Final = re.compile(rb'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*+)"')
_MOST_REQUESTS: Final = 1_000_000
_MOST_COUNTED: Final = 2**53
_MOST_TOKENS: Final = 10**12
_FULL: Final = 1.01
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


_Rows = list[tuple[bytes, float]]
"""The labels, as they stand, and the value of every series of one name."""


def extract(body: bytes) -> EngineMetrics:
    """Return what an exposition says. One pass of one pattern: a full parse would cost tens of milliseconds."""
    found: dict[bytes, _Rows] = {}
    for name, labels, text in _LINE.findall(b"\n" + body):
        try:
            value = float(text)
        except ValueError:
            value = nan
        found.setdefault(name, []).append((labels, value))
    usage = _values(found, b"kv_cache_usage_perc", b"gpu_cache_usage_perc", most=_FULL)
    return EngineMetrics(
        running=_total(found, b"num_requests_running", most=_MOST_REQUESTS),
        waiting=_total(found, b"num_requests_waiting", most=_MOST_REQUESTS),
        kv_usage=min(1.0, sum(usage) / len(usage)) if usage else None,
        kv_capacity=_capacity(found.get(b"cache_config_info", [])),
        preemptions=_total(found, b"num_preemptions_total"),
        prefix_queries=_total(found, b"prefix_cache_queries_total", b"gpu_prefix_cache_queries_total"),
        prefix_hits=_total(found, b"prefix_cache_hits_total", b"gpu_prefix_cache_hits_total"),
        adapters=_adapters(found.get(b"lora_requests_info")),
        sleeping=_sleeping(found.get(b"engine_sleep_state")),
        generated=_total(found, b"generation_tokens_total"),
    )


def _values(found: dict[bytes, _Rows], *names: bytes, most: float) -> list[float]:
    rows = next((found[name] for name in names if name in found), [])
    # One rank that tells nonsense makes the sum unknown: without it the sum would be too small.
    told = [value for _, value in rows]
    for value in told:
        if not 0 <= value <= most:
            return []
    return told


def _total(found: dict[bytes, _Rows], *names: bytes, most: float = _MOST_COUNTED) -> float | None:
    told = _values(found, *names, most=most)
    return sum(told) if told else None


def _capacity(rows: _Rows) -> int | None:
    """Each rank's series tells the blocks of all ranks together (vLLM's `core_client.py` adds them up)."""
    sizes = []
    for labels, _ in rows:
        try:
            blocks, size = int(_label(labels, b"num_gpu_blocks")), int(_label(labels, b"block_size"))
        except ValueError:
            return None
        if blocks <= 0 or not 0 < blocks * size <= _MOST_TOKENS:
            return None
        sizes.append(blocks * size)
    return max(sizes, default=None)


def _adapters(rows: _Rows | None) -> tuple[str, ...] | None:
    """Return the adapters of the newest series; the value of each series is the time at which it was written."""
    told = [(written, labels) for labels, written in rows or () if isfinite(written)]
    if not told:
        return None
    names = _labels(max(told)[1]).get(b"running_lora_adapters", b"").decode(errors="replace")
    return tuple(sorted(filter(None, names.split(","))))


def _sleeping(rows: _Rows | None) -> bool | None:
    if not rows:
        return None
    return any(value == 1 and _labels(labels).get(b"sleep_state", b"awake") != b"awake" for labels, value in rows)


def _label(labels: bytes, name: bytes) -> bytes:
    """Return the value of one label of many, up to its first quote; empty where there is none."""
    wanted = name + b'="'
    at = labels.find(wanted)
    while at > 0 and labels[at - 1 : at] not in {b",", b" "}:  # the end of a longer name
        at = labels.find(wanted, at + 1)
    return labels[at + len(wanted) : labels.find(b'"', at + len(wanted))] if at >= 0 else b""


def _labels(labels: bytes) -> dict[bytes, bytes]:
    return dict(_LABEL.findall(labels))
