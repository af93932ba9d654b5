"""Whether requests met their objective, SLI by SLI, in words."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor

from gateway.policy.canary.words import counted
from loadtest.bench.report import number
from loadtest.report.figures import distribution
from loadtest.report.recording import OK, Objective, Request
from loadtest.report.view import View

MET, MISSED, UNKNOWN = "met", "missed", "not measured"


@dataclass(frozen=True, slots=True)
class Sli:
    """One part of an objective, as it was measured: `share` is None where nothing was; `target` is in per cent."""

    name: str
    share: float | None
    target: float
    of: str
    within: str = ""
    more: str = ""
    when: str = ""

    @property
    def state(self) -> str:
        """MET, MISSED or UNKNOWN."""
        if self.share is None:
            return UNKNOWN
        return MET if 100 * self.share >= self.target - 1e-9 else MISSED

    @property
    def title(self) -> str:
        """What was promised, as the head of a column."""
        return f"{self.name}{self.within} (target {number(self.target)} %)"

    @property
    def shown(self) -> str:
        """The share, never rounded up: a target that was missed must not look reached."""
        return "-" if self.share is None else f"{floor(1e4 * self.share + 1e-6) / 100:g} %"

    def words(self) -> str:
        """Say it in a sentence."""
        target = f"target {number(self.target)} %"
        if self.share is None:
            return f"{self.name}: {self.of}; {target}."
        short = self.target - 100 * self.share
        points = number(short) if short >= 1 else f"{short:.2g}"
        by = f"{points} points short of the {target}" if self.state == MISSED else target
        return f"{self.name}: {self.shown} of {self.of}{self.within}; {by}{self.more}{self.when}."


def slis(requests: Sequence[Request], wanted: Objective) -> tuple[Sli, ...]:
    """Measure on some requests what an objective has targets for."""
    whole = sum(request.outcome == OK for request in requests)
    told = f"{counted(len(requests), 'request')} answered whole" if requests else "no request"
    found = (
        Sli("Availability", whole / len(requests) if requests else None, wanted.availability, told),
        _timed("TTFT", requests, wanted.ttft_target, f" within {thresholds(wanted)}", wanted.late_ttft),
        _timed("TPOT", requests, wanted.tpot_target, f" within {number(1000 * wanted.tpot)} ms", wanted.late_tpot),
    )
    return tuple(sli for sli in found if sli.target)


def thresholds(wanted: Objective) -> str:
    """The TTFT that is allowed, in words."""
    longer = (f", {number(1000 * under)} ms from {tokens} prompt tokens on" for tokens, under in wanted.long_prompts)
    return f"{number(1000 * wanted.ttft)} ms{''.join(longer)}"


def verdicts(view: View) -> Mapping[str, tuple[Sli, ...]]:
    """Judge each gateway where there are several, else all requests as one, named ""."""
    wanted = view.recording.about.objective
    groups = view.groups if view.several else {"": view.recording.requests}
    return {
        name: tuple(replace(sli, when=_when(view, sli, requests)) for sli in slis(requests, wanted))
        for name, requests in groups.items()
    }


def _when(view: View, sli: Sli, requests: Sequence[Request]) -> str:
    """Say in which bin of time most of the misses lie, and what happened there; "" where they are spread."""
    if sli.state != MISSED or view.bins.count < 2:
        return ""
    wanted = view.recording.about.objective
    late = {"TTFT": wanted.late_ttft, "TPOT": wanted.late_tpot}.get(sli.name)
    bad = [each for each in requests if (each.outcome != OK if late is None else each.outcome == OK and late(each))]
    (place, count), *_ = Counter(view.bins.index(each.at) for each in bad).most_common(1)
    if 2 * count <= len(bad):
        return ""
    begin = place * view.bins.width
    end = begin + view.bins.lengths[place]
    events = "; ".join(event.label for event in view.events if begin <= event.at < end)
    span = f"between {number(begin)} and {number(end)} s"
    return f"; {count} of {len(bad)} misses {span}{f' ({events})' if events else ''}"


def state(found: Sequence[Sli]) -> str:
    """What several SLIs come to: one that was missed decides, and none that was measured decides nothing."""
    states = {sli.state for sli in found}
    return MISSED if MISSED in states else MET if MET in states else UNKNOWN


def headline(name: str, found: Sequence[Sli]) -> str:
    """The verdict in a few words."""
    subject = f"{name}: o" if name else "O"
    came_to = state(found)
    missed = ", ".join(sli.name for sli in found if sli.state == MISSED)
    return f"{subject}bjective {came_to}{': ' + missed if missed else ''}"


def _timed(name: str, requests: Sequence[Request], target: float, within: str, late: Callable[[Request], bool]) -> Sli:
    seen = distribution(requests, name)
    if not seen.count:
        return Sli(name, None, target, "no stream was answered", within)
    p99 = f"; p99 {number(1000 * (seen.percentile(99) or 0.0))} ms"
    share = 1 - sum(r.outcome == OK and late(r) for r in requests) / seen.count
    return Sli(name, share, target, counted(seen.count, "answered stream"), within, p99)
