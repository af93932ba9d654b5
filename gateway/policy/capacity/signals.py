"""What engines of several kinds say of their load, as one: their backlog, and the shares of slots and KV cache in use.

A gauge that cannot be (negative, not finite, a share above 1, a number beyond all bounds) is unknown: None.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Final

from gateway.policy.capacity.want import EngineLoad

_LINE: Final = re.compile(
    rb'^([a-zA-Z_:][\w:]*+)[ \t]*+(?:\{((?:[^"}\n]++|"(?:[^"\\\n]++|\\.)*+")*+)\})?[ \t]*+([^ \t\n]+)', re.MULTILINE
)
_LABEL: Final = re.compile(rb'([a-zA-Z_]\w*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*+)"')
MOST: Final = 1_000_000
"""Requests that no engine has."""
FULL: Final = 1.01
"""A share of all, with what a sum of shares may be off."""


def _no_labels() -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Gauge:
    """A gauge by its name, of the series that have these labels, times `scale` (0.01 for per cent)."""

    metric: str
    labels: Mapping[str, str] = field(default_factory=_no_labels)
    scale: float = 1.0


Gauges = tuple[Gauge, ...]
"""The first of them that an engine exposes is read."""


@dataclass(frozen=True, slots=True)
class SignalMap:
    """Where an engine says what. Requests are summed over series (ranks), shares are averaged.

    Where it names no `slots_used`, these are `running` over `slots`, if it names both.
    """

    backlog: Gauges = ()
    running: Gauges = ()
    slots: Gauges = ()
    slots_used: Gauges = ()
    kv_used: Gauges = ()

    @property
    def metrics(self) -> frozenset[bytes]:
        """The names of all the gauges that it reads."""
        every = (*self.backlog, *self.running, *self.slots, *self.slots_used, *self.kv_used)
        return frozenset(each.metric.encode() for each in every)


def _triton(kind: str) -> Gauges:
    return (Gauge("nv_trt_llm_request_metrics", {"request_type": kind}),)


ENGINES: Final[Mapping[str, SignalMap]] = {
    "vllm": SignalMap(
        backlog=(Gauge("vllm:num_requests_waiting"),),
        running=(Gauge("vllm:num_requests_running"),),
        kv_used=(Gauge("vllm:kv_cache_usage_perc"), Gauge("vllm:gpu_cache_usage_perc")),
    ),
    "jetstream": SignalMap(
        backlog=(Gauge("jetstream_prefill_backlog_size"),),
        slots_used=(Gauge("jetstream_slots_used_percentage"),),
    ),
    "triton": SignalMap(
        backlog=(*_triton("waiting"), Gauge("nv_inference_pending_request_count")),
        running=_triton("active"),
        slots=_triton("max"),
        kv_used=(Gauge("nv_trt_llm_kv_cache_block_metrics", {"kv_cache_block_type": "fraction"}),),
    ),
    "sglang": SignalMap(
        backlog=(Gauge("sglang:num_queue_reqs"),),
        running=(Gauge("sglang:num_running_reqs"),),
        kv_used=(Gauge("sglang:token_usage"),),
    ),
    "tgi": SignalMap(backlog=(Gauge("tgi_queue_size"),), running=(Gauge("tgi_batch_current_size"),)),
}
"""Kinds of engines whose names are known. What they call `perc` and `percentage` is a share, 0 to 1, all the same."""

_Rows = dict[bytes, list[tuple[dict[bytes, bytes], float]]]


def read_signals(body: bytes, signals: SignalMap) -> EngineLoad:
    """Return what an exposition in Prometheus' text format says of the load of its engine."""
    rows = _rows(body, signals.metrics)
    running, slots = _total(rows, signals.running), _total(rows, signals.slots)
    used = _share(rows, signals.slots_used)
    if used is None and running is not None and slots:
        used = min(1.0, running / slots)
    return EngineLoad(_total(rows, signals.backlog), used, _share(rows, signals.kv_used), running)


def kind_of(body: bytes) -> str:
    """Return the kind of engine that exposes this, "" for one that is not known."""
    return next((kind for kind, signals in ENGINES.items() if _rows(body, signals.metrics)), "")


def _rows(body: bytes, wanted: frozenset[bytes]) -> _Rows:
    found: _Rows = {}
    for name, labels, text in _LINE.findall(body):
        if name in wanted:
            try:
                value = float(text)
            except ValueError:
                value = nan
            found.setdefault(name, []).append((dict(_LABEL.findall(labels)), value))
    return found


def _values(rows: _Rows, gauges: Gauges) -> list[float]:
    """Return the values of the first gauge that is exposed."""
    for gauge in gauges:
        wanted = {name.encode(): value.encode() for name, value in gauge.labels.items()}
        values = [
            value * gauge.scale
            for labels, value in rows.get(gauge.metric.encode(), ())
            if wanted.items() <= labels.items()
        ]
        if values:
            return values
    return []


def _total(rows: _Rows, gauges: Gauges) -> float | None:
    """Return the sum of a gauge; one series that cannot be makes it unknown, since the rest would be too little."""
    values = _values(rows, gauges)
    return sum(values) if values and _are_within(values, MOST) else None


def _share(rows: _Rows, gauges: Gauges) -> float | None:
    values = _values(rows, gauges)
    return min(1.0, sum(values) / len(values)) if values and _are_within(values, FULL) else None


def _are_within(values: Iterable[float], most: float) -> bool:
    return all(0 <= each <= most for each in values)
