"""What a fleet costs its store: from the counters of a Redis server, measured twice, to fleets of any size."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.policy.slo.windows import STORED

ROWS_PER_SERIES = sum(round(kept / width) for width, kept in STORED.items())
"""How many slots of one series are stored, once it has been counted in for 90 days."""
_OWN = ("cmdstat_info", "cmdstat_memory|usage", "cmdstat_scan", "cmdstat_hlen", "cmdstat_hkeys")
"""Commands that this program sends itself, and no gateway does."""
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Counters:
    """What a Redis server had done at one moment: all commands, also those inside scripts; bytes, and CPU seconds."""

    at: float
    operations: float
    scripts: float
    bytes_in: float
    bytes_out: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Rate:
    """What one replica costs the server a second; `cpu` in milliseconds."""

    operations: float
    scripts: float
    bytes_in: float
    bytes_out: float
    cpu: float

    def __str__(self) -> str:
        return (
            f"{self.operations:,.1f} operations/s in {self.scripts:,.1f} scripts/s, {self.bytes_in:,.0f} bytes/s in and"
            f" {self.bytes_out:,.0f} out, {self.cpu:.2f} ms of the server's CPU time a second"
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """What the server holds: series that were counted in, rows of all processes, and the bytes of a row."""

    series: int
    rows: int
    bytes_per_row: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """What so many replicas cost, each of which counts in so many series every second."""

    series: int
    replicas: int
    operations: float
    bytes: float
    cores: float
    memory: float


def read(client: Any) -> Counters:
    """Return the counters now."""
    seconds, micros = client.time()
    calls = {name: each["calls"] for name, each in client.info("commandstats").items() if name not in _OWN}
    traffic, cpu = client.info("stats"), client.info("cpu")
    return Counters(
        seconds + micros / 1e6,
        sum(calls.values()) - calls.get("cmdstat_time", 0),
        calls.get("cmdstat_eval", 0),
        traffic["total_net_input_bytes"],
        traffic["total_net_output_bytes"],
        cpu["used_cpu_user"] + cpu["used_cpu_sys"],
    )


def rate(before: Counters, after: Counters, replicas: int) -> Rate:
    """Return what each of so many replicas cost between two moments."""
    share = 1 / ((after.at - before.at) * replicas)
    return Rate(
        (after.operations - before.operations) * share,
        (after.scripts - before.scripts) * share,
        (after.bytes_in - before.bytes_in) * share,
        (after.bytes_out - before.bytes_out) * share,
        1000 * (after.cpu - before.cpu) * share,
    )


def stored(client: Any) -> Stored:
    """Return what is stored in rows."""
    rows, memory, series = 0, 0, set[str]()
    for key in client.scan_iter(match="*:rows:*", count=_AT_ONCE):
        rows += client.hlen(key)
        memory += client.memory_usage(key, samples=0) or 0
        series.update(field.partition(" ")[2] for field in client.hkeys(key))
    return Stored(len(series), rows, memory / rows if rows else 0.0)


def project(rest: Rate, load: Rate, kept: Stored, series: int, sizes: Iterable[int]) -> Iterator[Fleet]:
    """Yield what fleets of these sizes cost.

    A replica costs what it does at rest, and for each series the same again: it writes its own numbers once a second
    and reads the sum once, however many others count in it.
    """
    share = series / max(1, kept.series)
    for replicas in sizes:
        each = {
            name: getattr(rest, name) + share * max(0.0, getattr(load, name) - getattr(rest, name))
            for name in ("operations", "bytes_in", "bytes_out", "cpu")
        }
        yield Fleet(
            series,
            replicas,
            replicas * each["operations"],
            replicas * (each["bytes_in"] + each["bytes_out"]),
            replicas * each["cpu"] / 1000,
            (replicas + 1) * series * ROWS_PER_SERIES * kept.bytes_per_row,
        )


def table(fleets: Iterable[Fleet]) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    yield "| series | replicas | operations/s | MB/s | cores of the server | memory after 90 days |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: |"
    for each in fleets:
        memory = f"{each.memory / 1e9:,.1f} GB" if each.memory >= 1e9 else f"{each.memory / 1e6:,.0f} MB"
        numbers = f"{each.replicas:,} | {each.operations:,.0f} | {each.bytes / 1e6:,.2f} | {each.cores:,.2f}"
        yield f"| {each.series:,} | {numbers} | {memory} |"


def as_json(named: Mapping[str, Rate], kept: Stored) -> str:
    """Return what was measured, for files."""
    slots = {name: {part: getattr(each, part) for part in Rate.__slots__} for name, each in named.items()}
    return json.dumps({**slots, "stored": {part: getattr(kept, part) for part in Stored.__slots__}}, indent=1)
