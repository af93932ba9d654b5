"""`tidegate top`: the backends of a running gateway, live."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from gateway.cli.asking import ADMIN, Admin, AsJson, answer_of, console, found_by, table, text_of
from gateway.cli.demo.exposition import Samples, parse, sum_by
from gateway.cli.problems import problems
from gateway.cli.status import burn_rate, state_words
from gateway.cli.watching import Interval, Parts, print_found, watch
from gateway.policy.canary.words import counted

_LOOK_BACK = 10.0
"""Seconds over which requests are counted, as far as the command has looked for so long."""
_WINDOW = "5m"
_COUNTED = ("tidegate_attempts_total", "tidegate_requests_total", "tidegate_burn_rate")


class Sort(StrEnum):
    """What comes first: the highest of it; or the name."""

    BURN = "burn"
    LOAD = "load"
    RATE = "rate"
    TTFT = "ttft"
    NAME = "name"


_KEYS: dict[Sort, Callable[[dict[str, Any]], float]] = {
    Sort.BURN: lambda each: each["burn"] or 0.0,
    Sort.LOAD: lambda each: each["in_flight"] / each["limit"] if each["limit"] else float(each["in_flight"]),
    Sort.RATE: lambda each: each["requests_per_second"] or 0.0,
    Sort.TTFT: lambda each: each["observed_ttft_seconds"] or 0.0,
    Sort.NAME: lambda _: 0.0,
}


def top(
    admin: Admin = ADMIN,
    *,
    sort: Annotated[Sort, typer.Option(help="What is sorted by, after backends that are not well.")] = Sort.BURN,
    interval: Interval = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once, after one interval.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show each backend's load, speed and burn rate, live.

    On a terminal it is refreshed in place until Ctrl-C; elsewhere a table, or with --json a document, is printed each
    interval. Requests are attempts at the backend that ended, per second over the last 10 s at most, and the share is
    its part of them. The predicted TTFT is that of a prompt of 512 tokens now. The burn rate is the worst of its
    SLIs over 5 min, of what happened at this backend.
    """
    meter, in_place = Meter(sort), console().is_terminal and not (once or as_json)

    def look() -> dict[str, Any]:
        if not (in_place or meter.has_counts):  # what is printed once has rates from the beginning
            _look(admin, meter)
            time.sleep(interval)
        return _look(admin, meter)

    if not once:
        watch(look, lambda found, _: _shown(found), interval, as_json=as_json)
        return
    print_found(found_by(look), lambda found, _: _shown(found), as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many attempts each backend has ended, and how many requests the gateway, `at` seconds."""

    at: float
    attempts: Mapping[str, float]
    requests: float


class Meter:
    """Turns counts that grow into rates, by what it was told in the last seconds."""

    def __init__(self, sort: Sort) -> None:
        self.sort = sort
        self._seen: deque[_Counts] = deque()

    @property
    def has_counts(self) -> bool:
        """Whether it was told any."""
        return bool(self._seen)

    def document(self, status: dict[str, Any], samples: Samples, now: float) -> dict[str, Any]:
        """Return what is shown, from what the gateway tells now."""
        attempts = sum_by(samples.get("tidegate_attempts_total", {}), "backend")
        counts = _Counts(now, attempts, sum(samples.get("tidegate_requests_total", {}).values()))
        before = self._before(counts)
        rates = {each["id"]: _rate(counts, before, each["id"]) for each in status["backends"]}
        total, burns = sum(rate or 0.0 for rate in rates.values()), _burns(samples)
        rows = [_row(each, rates[each["id"]], total, burns.get(each["id"])) for each in status["backends"]]
        key = _KEYS[self.sort]
        rows.sort(key=lambda each: (each["state"] == "ready", -key(each), each["id"]))
        return {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "version": status["version"],
            "draining": status["draining"],
            "in_flight": status["in_flight"],
            "waiting": _waiting(status),
            "requests_per_second": _per_second(counts.requests, before.requests, now - before.at) if before else None,
            "seconds": round(now - before.at, 1) if before else None,
            "problems": len(problems(status)),
            "backends": rows,
        }

    def _before(self, counts: _Counts) -> _Counts | None:
        """Return the counts that these are compared with, None for the first ones and after a restart."""
        if self._seen and counts.requests < self._seen[-1].requests:
            self._seen.clear()
        self._seen.append(counts)
        while len(self._seen) > 2 and counts.at - self._seen[1].at >= _LOOK_BACK:
            self._seen.popleft()
        return self._seen[0] if len(self._seen) > 1 else None


def _look(admin: str, meter: Meter) -> dict[str, Any]:
    status = answer_of(admin, "GET", "/admin/status")
    lines = text_of(admin, "/metrics").splitlines(keepends=True)
    samples = parse("".join(line for line in lines if line.startswith(_COUNTED)))
    return meter.document(status, samples, time.monotonic())


def _rate(now: _Counts, before: _Counts | None, backend: str) -> float | None:
    if before is None:
        return None
    return _per_second(now.attempts.get(backend, 0.0), before.attempts.get(backend, 0.0), now.at - before.at)


def _per_second(now: float, before: float, seconds: float) -> float:
    return round(max(0.0, now - before) / seconds, 2)


def _burns(samples: Samples) -> dict[str, float]:
    """Return the worst burn rate of each backend."""
    worst: dict[str, float] = {}
    for labels, value in samples.get("tidegate_burn_rate", {}).items():
        of = dict(labels)
        if of["subject"] == "backend" and of["window"] == _WINDOW:
            worst[of["name"]] = max(value, worst.get(of["name"], 0.0))
    return worst


def _row(backend: dict[str, Any], rate: float | None, total: float, burn: float | None) -> dict[str, Any]:
    engine = backend["engine"] or {}
    return {
        "id": backend["id"],
        "pool": backend["pool"],
        "state": _state(backend),
        "weight": backend["weight"],
        "share": round(rate / total, 4) if rate is not None and total else None,
        "in_flight": backend["in_flight"],
        "limit": backend["limit"],
        "waiting": engine.get("waiting"),
        "kv_usage": engine.get("kv_usage"),
        "requests_per_second": rate,
        "predicted_ttft_seconds": backend["predicted_ttft_seconds"],
        "observed_ttft_seconds": backend["observed_ttft_seconds"],
        "burn": burn,
    }


def _state(backend: dict[str, Any]) -> str:
    words = state_words(backend)
    return words if words != "ready" or backend["ejection"] == "in_service" else backend["ejection"].replace("_", " ")


def _waiting(status: dict[str, Any]) -> dict[str, int]:
    """Return how many requests wait in the gateway, by class."""
    waiting: Counter[str] = Counter()
    for model in status["models"]:
        for version in model["versions"]:
            waiting.update(version["waiting"])
    return waiting


def _shown(found: dict[str, Any]) -> Parts:
    return (*_head(found), Text(), _backends(found), Text())


def _head(found: dict[str, Any]) -> Iterator[Text]:
    rate = found["requests_per_second"]
    told = (
        f"tidegate {found['version']}, {'draining' if found['draining'] else 'serving'}",
        *(() if rate is None else (f"{rate:,.1f} requests/s",)),
        f"{found['in_flight']:,} in flight",
        f"{_waiting_words(found['waiting'])} waiting",
        f"{found['at'][11:19]} UTC",
    )
    yield Text(", ".join(told))
    if found["problems"]:
        yield Text(f"{counted(found['problems'], 'problem')}: see `tidegate status`")


def _waiting_words(waiting: dict[str, int]) -> str:
    return " and ".join(f"{count:,} {name}" for name, count in waiting.items() if count) or "0"


def _backends(found: dict[str, Any]) -> Table:
    return table(
        [
            "backend",
            "state",
            "weight",
            "share",
            "in flight",
            "waiting",
            "KV used",
            "req/s",
            "predicted TTFT",
            "observed TTFT",
            f"burn {_WINDOW}",
        ],
        [
            [
                each["id"],
                each["state"],
                f"{each['weight']:.2f}",
                _percent(each["share"]),
                f"{each['in_flight']}/{each['limit'] or '-'}",
                _number(each["waiting"], 0),
                _percent(each["kv_usage"]),
                _number(each["requests_per_second"], 1),
                _milliseconds(each["predicted_ttft_seconds"]),
                _milliseconds(each["observed_ttft_seconds"]),
                burn_rate(each["burn"]),
            ]
            for each in found["backends"]
        ],
        ["weight", "waiting", "predicted TTFT", "share", "KV used"],
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * ratio:.0f} %"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"
