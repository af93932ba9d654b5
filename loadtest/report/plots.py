"""The plots of a report, as numbers for uPlot: what happened over time on one axis, and cumulative distributions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.report.figures import (
    MEASURES,
    OUTCOMES,
    Bins,
    Distribution,
    all_gaps,
    distribution,
    gaps_over_time,
    goodput,
    grouped,
    met,
    over_time,
    rate,
    shares,
)
from loadtest.report.recording import CUT, FAILED, OK, REFUSED, Objective, Request, Sample
from loadtest.report.view import ALL, View

Course = Sequence[float | None]

# Okabe and Ito's colours, told apart by the colour-blind, less the yellow and the black that one background swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#888888")
DASHES: tuple[tuple[int, ...], ...] = ((), (6, 4), (2, 3))
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY = COLOURS

_OF_OUTCOME = {OK: GREEN, FAILED: VERMILION, CUT: PURPLE, REFUSED: ORANGE}
_OF_PERCENTILE = {50: SKY, 95: BLUE, 99: VERMILION}
_TOLD = {
    "in_flight": ("In flight", ""),
    "queue": ("Waiting in the queue", ""),
    "burn": ("Burn rate", "As the gateway told it; at 1 the error budget lasts exactly as long as its window."),
    "share": ("Share as the gateway told it", ""),
}
_MOST_BACKENDS = 8
_MOST_SAMPLES = 4000
_PER_CENT_AXIS = (0.0, 103.0)


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot: `key` names it in a page, `timed` says that its x axis is the run's time.

    `log` is for the axis of durations: y of a plot over time, x of a distribution. `threshold` is a value on that axis.
    """

    key: str
    title: str
    traces: tuple[dict[str, Any], ...]
    note: str = ""
    timed: bool = True
    unit: str = ""
    log: bool = False
    span: tuple[float, float] | None = None
    stacked: bool = False
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Style:
    """How the line of one gateway, backend, version or name looks, in all plots."""

    colour: str
    dash: tuple[int, ...] = ()


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """A style for each label: first by colour, then by dash."""
    found = {}
    for index, label in enumerate(sorted(set(labels))):
        found[label] = Style(COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)])
    return found


def panels(view: View) -> list[Panel]:
    """All plots that have something to show; those over time first."""
    timed = [*_latencies(view), *_traffic(view), *_told(view), *_where(view)]
    return [panel for panel in (*timed, *_distributions(view)) if panel.traces]


def _latencies(view: View) -> list[Panel]:
    if view.several:
        return _compared(view)
    found = []
    for measure in ("TTFT", "ITL", "TPOT", "e2e"):
        lines = [
            _line(view.bins, f"p{per_cent}", _ms(_percentile(view, measure, per_cent)), Style(colour))
            for per_cent, colour in _OF_PERCENTILE.items()
        ]
        found.append(_latency_panel(view, measure, f"{measure}, ms", lines))
    return found


def _percentile(view: View, measure: str, per_cent: int) -> Course:
    if measure == "ITL":
        return gaps_over_time(view.bins, view.recording.gaps, per_cent)
    return over_time(view.bins, view.recording.requests, measure, per_cent)


def _compared(view: View) -> list[Panel]:
    """The latencies of several gateways: one panel for each percentile, or the lines would hide each other."""
    found = []
    style = styles(view.groups)
    for measure in MEASURES:
        for per_cent in _OF_PERCENTILE:
            lines = [
                _line(view.bins, name, _ms(over_time(view.bins, requests, measure, per_cent)), style[name])
                for name, requests in view.groups.items()
            ]
            found.append(_latency_panel(view, measure, f"{measure} p{per_cent}, ms", lines))
    return found


def _latency_panel(view: View, measure: str, title: str, lines: Sequence[dict[str, Any]]) -> Panel:
    key = f"time-{title.removesuffix(', ms').replace(' ', '-').lower()}"
    limit = _threshold(view.recording.about.objective, measure)
    note = _together(view) if measure == "ITL" else ""
    return Panel(key, title, _drawn(lines), note, unit="ms", log=True, threshold=limit)


def _together(view: View) -> str:
    """Say which gaps the axis leaves out: on a logarithmic one 0 would take all the room."""
    share = all_gaps(view.recording.gaps).share_of(0.0)
    if not share:
        return ""
    return f"{100 * share:.3g} % of the gaps are 0, since their events arrived in one read; the axis begins above 0."


def _threshold(objective: Objective, measure: str) -> float | None:
    limits = {"TTFT": (objective.ttft, objective.ttft_target), "TPOT": (objective.tpot, objective.tpot_target)}
    limit, target = limits.get(measure, (0.0, 0.0))
    return 1000 * limit if target else None


def _traffic(view: View) -> list[Panel]:
    bins, objective = view.bins, view.recording.about.objective
    groups = view.groups if view.several else {ALL: view.recording.requests}
    style = styles(groups)

    def lines(course: Callable[[Sequence[Request]], Course]) -> tuple[dict[str, Any], ...]:
        return _drawn(_line(bins, name, course(requests), style[name]) for name, requests in groups.items())

    good = lines(lambda requests: goodput(bins, requests, objective))
    whole = lines(lambda requests: _per_cent(met(bins, requests, objective)))
    how = "Output tokens of requests that met the objective, by when the requests were due."
    return [
        *(_failures(view) if view.several else _outcomes(view)),
        Panel("goodput", "Goodput, tokens/s", good, how),
        Panel("met", "Requests that met the objective, %", whole, unit="%", span=_PER_CENT_AXIS),
    ]


def _outcomes(view: View) -> list[Panel]:
    """Requests by outcome, stacked."""
    by_outcome = grouped(view.recording.requests, lambda request: request.outcome)
    lines = [
        _line(view.bins, outcome, rate(view.bins, by_outcome[outcome]), Style(_OF_OUTCOME[outcome]))
        for outcome in OUTCOMES
        if outcome in by_outcome
    ]
    note = "Stacked. Refused requests were shed, by 429 or 503."
    return [Panel("outcomes", "Requests per second", tuple(lines), note, stacked=True)]


def _failures(view: View) -> list[Panel]:
    """What each of several gateways failed, cut and refused."""
    style, found = styles(view.groups), []
    for outcome in (FAILED, CUT, REFUSED):
        counted = {
            name: [request for request in requests if request.outcome == outcome]
            for name, requests in view.groups.items()
        }
        lines = [_line(view.bins, name, rate(view.bins, each), style[name]) for name, each in counted.items() if each]
        found.append(Panel(f"outcome-{outcome}", f"Requests {outcome}, per second", tuple(lines)))
    return found


def _told(view: View) -> list[Panel]:
    """What the gateway told of itself: one panel for each figure, those that every gateway tells first."""
    style = _style_of_parts(view)
    series: dict[str, dict[str, list[Sample]]] = {}
    for sample in sorted(view.recording.series, key=lambda sample: sample.at):
        series.setdefault(sample.name, {}).setdefault(sample.label, []).append(sample)
    found = []
    for name in sorted(series, key=lambda name: (name not in _TOLD, [*_TOLD].index(name) if name in _TOLD else name)):
        title, note = _TOLD.get(name, (name, ""))
        width = _thinned(series[name].values())
        if width > 1:
            note = f"{note} Each point is the highest of {width} samples.".strip()
        lines = [
            _trace(label or name, *_highest(samples, width), style[label])
            for label, samples in sorted(series[name].items())
        ]
        found.append(Panel(f"told-{name}", title, tuple(lines), note))
    return found


def _thinned(series: Iterable[Sequence[Sample]]) -> int:
    """Return how many samples share a point, so that all lines together stay small enough for a page."""
    return -(-sum(map(len, series)) // _MOST_SAMPLES)


def _highest(samples: Sequence[Sample], width: int) -> tuple[list[float], list[float]]:
    """Return times and values of every so many samples: the first time, and the highest value."""
    groups = [samples[first : first + width] for first in range(0, len(samples), width)]
    return [group[0].at for group in groups], [max(each.value for each in group) for group in groups]


def _where(view: View) -> list[Panel]:
    """The shares of backends and versions; for several gateways a panel for each backend that they have in common."""
    if view.several:
        return _where_compared(view)
    requests = view.recording.requests
    parts = _style_of_parts(view)
    versions = styles(request.version for request in requests if request.version)
    labels: tuple[tuple[str, dict[str, Style], Callable[[Request], str]], ...] = (
        ("backend", parts, lambda request: request.backend),
        ("version", versions, lambda request: request.version),
    )
    found = []
    for what, style, label in labels:
        courses = shares(view.bins, requests, label)
        lines = _drawn(_line(view.bins, name, _per_cent(course), style[name]) for name, course in courses.items())
        title = f"Share of requests by {what}, %"
        found.append(Panel(f"by-{what}-time", title, lines, unit="%", span=_PER_CENT_AXIS))
    return found


def _where_compared(view: View) -> list[Panel]:
    style = styles(view.groups)
    courses = {name: shares(view.bins, each, lambda request: request.backend) for name, each in view.groups.items()}
    backends = sorted({backend for each in courses.values() for backend in each})
    shared = [backend for backend in backends if sum(backend in each for each in courses.values()) > 1]
    found = []
    for index, backend in enumerate(shared[:_MOST_BACKENDS]):
        lines = _drawn(
            _line(view.bins, name, _per_cent(each[backend]), style[name])
            for name, each in courses.items()
            if backend in each
        )
        title = f"Share of requests at {backend}, %"
        found.append(Panel(f"by-backend-{index}", title, lines, unit="%", span=_PER_CENT_AXIS))
    return found


def _style_of_parts(view: View) -> dict[str, Style]:
    """Styles of all that is not a gateway: backends, and whatever else the gateway told of by name."""
    told = {sample.label for sample in view.recording.series}
    parts = styles({request.backend for request in view.recording.requests if request.backend} | told)
    return {**parts, **styles(view.groups)} if view.several else parts


def _distributions(view: View) -> list[Panel]:
    style, found = styles(view.groups), []
    objective = view.recording.about.objective
    curves: dict[str, list[tuple[str, Distribution, Style]]] = {
        measure: [(name, distribution(each, measure), style[name]) for name, each in view.groups.items()]
        for measure in MEASURES
    }
    curves["ITL"] = [(ALL, all_gaps(view.recording.gaps), Style(BLUE))]
    for measure in ("TTFT", "ITL", "TPOT", "e2e"):
        traces = _drawn(_curve(name, seen, look) for name, seen, look in curves[measure])
        limit = _threshold(objective, measure)
        note = "Dotted: the threshold." if limit is not None else _together(view) if measure == "ITL" else ""
        key = f"cdf-{measure.lower()}"
        found.append(
            Panel(key, measure, traces, note, timed=False, unit="ms", log=True, span=_PER_CENT_AXIS, threshold=limit)
        )
    return found


def _curve(name: str, seen: Distribution, style: Style) -> dict[str, Any]:
    points = [(1000 * value, share) for value, share in seen.curve() if value > 0]
    return _trace(name, [_short(value) for value, _ in points], _per_cent([share for _, share in points]), style)


def _line(bins: Bins, name: str, course: Course, style: Style) -> dict[str, Any]:
    return _trace(name, bins.middles, course, style)


def _trace(name: str, x: Sequence[float], y: Course, style: Style) -> dict[str, Any]:
    """A line; where values are missing it has gaps."""
    return {
        "name": name,
        "x": [round(each, 3) for each in x],
        "y": [None if value is None else _short(value) for value in y],
        "colour": style.colour,
        "dash": style.dash,
    }


def _drawn(lines: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The lines that have any point."""
    return tuple(line for line in lines if any(value is not None for value in line["y"]))


def _ms(course: Course) -> Course:
    return [None if value is None else 1000 * value for value in course]


def _per_cent(course: Course) -> Course:
    return [None if value is None else 100 * value for value in course]


def _short(value: float) -> float:
    """Four digits, which is more than a plot shows."""
    return float(f"{value:.4g}")
