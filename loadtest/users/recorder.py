"""What one process saw of a run, for locust's statistics and for the recording."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any

import gevent

from loadtest.report.recording import OK, Request, rounded
from loadtest.users.client import Answer

if TYPE_CHECKING:  # locust patches what it is imported into
    from locust.env import Environment

TTFT, ITL, TPOT, LATE = "TTFT", "ITL", "TPOT", "LATE"
_AT_ONCE = 50


class Unanswered(Exception):
    """A request that was not answered well, in words that are the same for all of its kind."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it was meant: `due` in seconds on the monotonic clock, None for when it was sent."""

    row: str
    path: str
    tenant: str = ""
    service_class: str = ""
    due: float | None = None


@dataclass(slots=True)
class Recorder:
    """Requests and gaps since the last `take`; times count from `began` on the monotonic clock.

    `left` counts requests that a user left in the middle, because the run was over.
    """

    environment: "Environment"
    began: float
    requests: list[Request] = field(default_factory=list)
    gaps: Counter[tuple[int, float]] = field(default_factory=Counter)
    left: int = 0

    def settle(self, call: Call, answer: Answer) -> None:
        """Note what came of a request: rows in the statistics from when it was sent, the recording from when due."""
        due = answer.sent if call.due is None else call.due
        whole = answer.outcome == OK
        self.environment.events.request.fire(
            request_type="POST",
            name=call.row,
            response_time=(answer.ended - answer.sent) * 1000 if whole else None,
            response_length=answer.size,
            exception=None if whole else Unanswered(answer.error),
            context={},
            response=None,
            url=call.path,
        )
        if call.due is not None:
            self._row(LATE, call.row, answer.sent - call.due)
        self.requests.append(
            Request(
                at=due - self.began,
                name=call.row,
                tenant=call.tenant,
                service_class=call.service_class,
                status=answer.status,
                outcome=answer.outcome,
                backend=answer.backend,
                version=answer.version,
                prompt_tokens=answer.tokens.prompt,
                output_tokens=answer.tokens.output,
                ttft=None if answer.first is None else answer.first - due,
                tpot=answer.tpot,
                e2e=answer.ended - due,
                cached_tokens=answer.tokens.cached,
            )
        )
        if whole:
            self._timings(call.row, answer)

    def take(self) -> dict[str, Any]:
        """Return what a worker reports to its master, and forget it."""
        report = {
            "requests": [astuple(request) for request in self.requests],
            "gaps": [(second, gap, count) for (second, gap), count in self.gaps.items()],
            "left": self.left,
        }
        self.requests, self.gaps, self.left = [], Counter(), 0
        return report

    def add(self, report: Mapping[str, Any]) -> None:
        """Take in a worker's report."""
        self.requests.extend(Request(*row) for row in report["requests"])
        for second, gap, count in report["gaps"]:
            self.gaps[(second, gap)] += count
        self.left += report["left"]

    def _timings(self, row: str, answer: Answer) -> None:
        if answer.first is not None:
            self._row(TTFT, row, answer.first - answer.sent)
        if answer.tpot is not None:
            self._row(TPOT, row, answer.tpot)
        for number, (at, gap) in enumerate(answer.gaps, start=1):
            if number % _AT_ONCE == 0:
                gevent.sleep(0)  # others' answers arrive meanwhile, and must not be timed late
            self._row(ITL, row, gap)
            self.gaps[int(at - self.began), rounded(gap)] += 1

    def _row(self, kind: str, row: str, seconds: float) -> None:
        # Into its own entry alone: locust's event would count it as a request too, in the totals and the charts.
        self.environment.stats.entries[row, kind].log(seconds * 1000, 0)  # type: ignore[arg-type]


def bucket(milliseconds: float) -> float:
    """Round as locust's statistics may: three digits, whole milliseconds from 10 to 1000.

    Locust's own is two digits above 100 ms and whole milliseconds below, which makes 0 of a short gap.
    """
    if milliseconds < 1000:
        return round(milliseconds, 2) if milliseconds < 10 else round(milliseconds)
    return round(milliseconds, -1 if milliseconds < 10_000 else -2)
