"""The plots of a report as plotly's figures: what happened over time on one axis, and cumulative distributions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
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
from loadtest.report.recording import CUT, FAILED, OK, REFUSED, Event, Objective, Request, Sample
from loadtest.report.view import ALL, View

Course = Sequence[float | None]

# Okabe and Ito's colours, told apart by the colour-blind, less the yellow and the black that one background swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#888888")
DASHES = ("solid", "dash", "dot")
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY = COLOURS

_OF_OUTCOME = {OK: GREEN, FAILED: VERMILION, CUT: PURPLE, REFUSED: ORANGE}
_OF_PERCENTILE = {50: SKY, 95: BLUE, 99: VERMILION}
_TOLD = {
    "in_flight": ("In flight", ""),
    "queue": ("Waiting in the queue", ""),
    "burn": ("Burn rate", "As the gateway told it; at 1 the error budget lasts exactly as long as its window."),
    "share": ("Share as the gateway told it", ""),
}
_LOG = {"type": "log", "dtick": "D2", "minorloglabels": "complete"}
_MOST_BACKENDS = 8
_LONGEST_LABEL = 28
_CLOSE = 0.015


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot: `key` names it in a page, `timed` says that its x axis is the run's time."""

    key: str
    title: str
    traces: tuple[dict[str, Any], ...]
    layout: dict[str, Any]
    note: str = ""
    timed: bool = True


@dataclass(frozen=True, slots=True)
class Style:
    """How the line of one gateway, backend, version or name looks, in all plots."""

    colour: str
    dash: str = "solid"


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
    traces = _drawn(lines)
    limit = _threshold(view.recording.about.objective, measure)
    if traces and limit is not None:
        flat = {"mode": "lines", "hoverinfo": "skip", "line": {"color": GREY, "width": 1.2, "dash": "dot"}}
        traces = (*traces, {**flat, "name": "threshold", "x": [0, view.seconds], "y": [1000 * limit] * 2})
    key = f"time-{title.removesuffix(', ms').replace(' ', '-').lower()}"
    return _timed(view, key, title, traces, _LOG)


def _threshold(objective: Objective, measure: str) -> float | None:
    return {"TTFT": objective.ttft, "TPOT": objective.tpot}.get(measure)


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
        _timed(view, "goodput", "Goodput, tokens/s", good, {"rangemode": "tozero"}, how),
        _timed(view, "met", "Requests that met the objective, %", whole, {"range": [0, 103]}),
    ]


def _outcomes(view: View) -> list[Panel]:
    """Requests by outcome, stacked."""
    by_outcome = grouped(view.recording.requests, lambda request: request.outcome)
    lines = [
        {
            **_line(view.bins, outcome, rate(view.bins, by_outcome[outcome]), Style(_OF_OUTCOME[outcome])),
            "stackgroup": "one",
        }
        for outcome in OUTCOMES
        if outcome in by_outcome
    ]
    note = "Stacked. Refused requests were shed, by 429 or 503."
    return [_timed(view, "outcomes", "Requests per second", tuple(lines), {"rangemode": "tozero"}, note)]


def _failures(view: View) -> list[Panel]:
    """What each of several gateways failed, cut and refused."""
    style, found = styles(view.groups), []
    for outcome in (FAILED, CUT, REFUSED):
        counted = {
            name: [request for request in requests if request.outcome == outcome]
            for name, requests in view.groups.items()
        }
        lines = [_line(view.bins, name, rate(view.bins, each), style[name]) for name, each in counted.items() if each]
        title = f"Requests {outcome}, per second"
        found.append(_timed(view, f"outcome-{outcome}", title, tuple(lines), {"rangemode": "tozero"}))
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
        lines = [
            _trace(label or name, [each.at for each in samples], [each.value for each in samples], style[label])
            for label, samples in sorted(series[name].items())
        ]
        found.append(_timed(view, f"told-{name}", title, tuple(lines), {"rangemode": "tozero"}, note))
    return found


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
        found.append(_timed(view, f"by-{what}-time", f"Share of requests by {what}, %", lines, {"range": [0, 103]}))
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
        found.append(_timed(view, f"by-backend-{index}", title, lines, {"range": [0, 103]}))
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
        traces = tuple(_curve(name, seen, look) for name, seen, look in curves[measure] if seen.count)
        limit = _threshold(objective, measure)
        layout = _layout({**_LOG, "ticksuffix": " ms"}, {"range": [0, 103], "ticksuffix": " %"})
        if limit is not None:
            layout["shapes"] = [_upright(1000 * limit)]
        note = "Dotted: the threshold." if limit is not None else ""
        found.append(Panel(f"cdf-{measure.lower()}", measure, traces, layout, note, timed=False))
    return found


def _curve(name: str, seen: Distribution, style: Style) -> dict[str, Any]:
    points = seen.curve()
    return _trace(name, [_short(1000 * value) for value, _ in points], _per_cent([share for _, share in points]), style)


def _timed(
    view: View, key: str, title: str, traces: tuple[dict[str, Any], ...], axis: Mapping[str, Any], note: str = ""
) -> Panel:
    layout = _layout({"range": [0, view.seconds], "ticksuffix": " s"}, axis)
    layout |= _marks(view.recording.about.events, view.seconds)
    return Panel(key, title, traces, layout, note)


def _layout(x: Mapping[str, Any], y: Mapping[str, Any]) -> dict[str, Any]:
    plain = {"zeroline": False, "exponentformat": "none", "ticklabelstandoff": 4}
    return {"xaxis": {**plain, **x}, "yaxis": {**plain, **y}, "showlegend": True}


def _marks(events: Sequence[Event], seconds: float) -> dict[str, Any]:
    """A line for each event, and its label; events that happen at about one time share a label."""
    labels: list[tuple[float, str]] = []
    for event in sorted(events, key=lambda event: event.at):
        if labels and event.at - labels[-1][0] < _CLOSE * seconds:
            labels[-1] = (labels[-1][0], f"{labels[-1][1]}; {event.label}")
        else:
            labels.append((event.at, event.label))
    return {"shapes": [_upright(event.at) for event in events], "annotations": [_label(*each) for each in labels]}


def _upright(at: float) -> dict[str, Any]:
    line = {"color": GREY, "width": 1, "dash": "dot"}
    return {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def _label(at: float, label: str) -> dict[str, Any]:
    short = label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"
    place = {"x": at, "y": 1, "yref": "paper", "xanchor": "right", "yanchor": "top", "textangle": -90}
    return {**place, "text": escape(short), "hovertext": escape(label), "showarrow": False, "font": {"size": 10}}


def _line(bins: Bins, name: str, course: Course, style: Style) -> dict[str, Any]:
    return _trace(name, bins.middles, course, style)


def _trace(name: str, x: Sequence[float], y: Course, style: Style) -> dict[str, Any]:
    """A line as SVG. Where values are missing it has gaps, and marks the points that no line would show."""
    line = {"color": style.colour, "dash": style.dash, "width": 1.8}
    values = [None if value is None else _short(value) for value in y]
    beside = zip([None, *values], values, [*values[1:], None], strict=False)
    alone = any(value is not None and before is after is None for before, value, after in beside)
    looks = {"mode": "lines+markers" if alone else "lines", "marker": {"size": 4}, "line": line}
    return {
        "type": "scatter",
        "name": escape(name),
        "x": [round(each, 3) for each in x],
        "y": values,
        "showlegend": name != ALL,
        **looks,
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
