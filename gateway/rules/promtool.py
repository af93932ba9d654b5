"""Unit tests of the alerts for `promtool test rules`: each fires when it should, and not when it should not.

All SLOs are played at once, since promtool evaluates every rule in every test.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from gateway.policy.slo.alerts import FASTEST, PAIRS, Severity
from gateway.policy.slo.burn import Counts
from gateway.policy.slo.time_in_use import HOUR
from gateway.policy.slo.windows import MINUTE
from gateway.rules import alerts
from gateway.rules.prometheus import groups
from gateway.rules.recordings import EVERY
from gateway.rules.slo import Document, Slo, alert_name, matchers

_BEFORE = 120
"""Steps of `recordings.EVERY` before something happens: an hour."""
_BUSY = 100_000
"""Events a step: so many that failing shares are exact."""
_FIRST_PAGE = 300.0
"""Seconds after which an outage pages at the earliest: long enough to tell a little before from a little after."""
_MARGIN = 1.2
_NAMES = {"version": "v1", "prompt_tokens": ""}


@dataclass(frozen=True, slots=True)
class Expected:
    """Whether a series is there `at` a time in seconds."""

    at: float
    series: str
    there: bool


@dataclass(frozen=True, slots=True)
class Scenario:
    """Values of the counters of each replica, good and bad, in promtool's notation, and what is expected of them."""

    replicas: list[tuple[str, str]]
    expected: list[Expected]


def unit_tests(slos: Iterable[Slo], rules_file: str) -> Document:
    """Return tests of what `rules_file` holds, whose path is relative to the tests' own."""
    found = list(slos)
    interval = f"{round(EVERY * found[0].scale.factor * 1000)}ms"
    return {
        "rule_files": [rules_file],
        "evaluation_interval": interval,
        "group_eval_order": [group["name"] for group in groups(found)],
        "tests": [{"name": name, "interval": interval, **_played(found, play)} for name, play in _SCENARIOS.items()],
    }


def _outage(slo: Slo) -> Scenario:
    """Failures begin, as many as page after five minutes, and go on until all pairs burn. A replica restarts then."""
    budget = slo.target.budget
    share = min(1.0, FASTEST.factor(slo.window) * budget * FASTEST.long / _FIRST_PAGE)
    seconds = {pair: pair.factor(slo.window) * budget * pair.long / share for pair in PAIRS}
    steps = _steps(max(seconds.values()) * _MARGIN) + 4
    failed = round(_BUSY * share)
    bad = f"0x{_BEFORE} 0+{failed}x{steps}"
    replicas = [
        (f"0+{_BUSY}x{_BEFORE} {_BUSY * _BEFORE}+{_BUSY - failed}x{steps}", bad),
        (f"0+{_BUSY}x{_BEFORE} 0+{_BUSY - failed}x{steps}", bad),
    ]
    begins = {alerts.burning(slo, pair): seconds[pair] for pair in PAIRS} | {_page(slo): seconds[FASTEST]}
    belongs = [_firing(slo, severity) for severity in Severity if slo.part.labels or severity is Severity.TICKET]
    expected = [
        Expected(_later(after, there=there), series, there)
        for (series, after), there in product(begins.items(), (False, True))
    ]
    end = _later(max(seconds.values()), there=True)
    return Scenario(replicas, [*expected, *(Expected(end, series, there=False) for series in belongs)])


def _quiet_outage(slo: Slo) -> Scenario:
    """Return the series of one request a minute; all fail after a good hour."""
    factor, budget = FASTEST.factor(slo.window), slo.target.budget
    failures = next((bad for bad in range(1, 61) if FASTEST.speaks(Counts(60 - bad, bad), factor, budget)), None)
    after = 60 * (failures or 60) + 3 * MINUTE
    minutes = [*range(1, _BEFORE // 2 + 1)]
    good = " ".join(f"{minute}x1" for minute in minutes)
    bad = f"0x{_BEFORE} " + " ".join(f"{minute}x1" for minute in range(1, round(after / 60) + 2))
    expected = [Expected(_BEFORE * EVERY, _page(slo), there=False)]
    if failures is not None:
        expected.append(Expected(_BEFORE * EVERY + after, _page(slo), there=True))
    return Scenario([(f"0 {good} {minutes[-1]}x{2 * round(after / 60)}", bad)], expected)


def _blip(slo: Slo) -> Scenario:
    """Return the series of twenty requests that fail at once after an idle night; all later ones are answered."""
    limit = FASTEST.factor(slo.window) * slo.target.budget
    each = 20 * max(2, round(2 * EVERY / HOUR / limit))
    replicas = [(f"0x{_BEFORE} 0+{each}x120", f"0x{_BEFORE} 20x120")]
    times = [(_BEFORE + steps) * EVERY for steps in (1, 2, 3, 4, 10, 20, 30, 40, 60, 120)]
    return Scenario(replicas, [Expected(at, _firing(slo, each), there=False) for at in times for each in Severity])


def _idle(slo: Slo) -> Scenario:
    return Scenario(
        [(f"0x{_BEFORE}", f"0x{_BEFORE}")],
        [Expected(_BEFORE * EVERY, _firing(slo, severity), there=False) for severity in Severity],
    )


def _fresh(slo: Slo) -> Scenario:
    """Return the series of a new process: its counters begin at 0 and every request fails."""
    seconds = FASTEST.factor(slo.window) * slo.target.budget * HOUR
    by = min(seconds * _MARGIN, HOUR) + 3 * EVERY
    expected = [Expected(EVERY, _page(slo), there=False), Expected(_steps(by) * EVERY, _page(slo), there=True)]
    return Scenario([(f"0x{_steps(by)}", f"0+100x{_steps(by)}")], expected)


_SCENARIOS: dict[str, Callable[[Slo], Scenario]] = {
    "failures begin after a good hour, and a replica restarts": _outage,
    "every request fails, at one a minute": _quiet_outage,
    "the first requests after an idle night fail": _blip,
    "no request comes": _idle,
    "every request of a new process fails": _fresh,
}


def _played(slos: list[Slo], play: Callable[[Slo], Scenario]) -> Document:
    """Only SLOs without parts have series of their own: those of a whole are the sum of its parts'."""
    series: dict[str, str] = {}
    tests = []
    split = {slo.whole for slo in slos if slo.part.labels}
    for slo in slos:
        scenario = play(slo)
        tests += [_test(slo, each) for each in scenario.expected]
        if slo.id not in split:
            series.update(_series(slo, scenario))
    return {
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": tests,
    }


def _series(slo: Slo, scenario: Scenario) -> Iterator[tuple[str, str]]:
    for replica, values in enumerate(scenario.replicas):
        for verdict, value in zip(("good", "bad"), values, strict=True):
            labels = _NAMES | slo.counted | {"verdict": verdict, "instance": f"replica-{replica}"}
            yield f"tidegate_sli_events_total{{{matchers(labels)}}}", value


def _test(slo: Slo, expected: Expected) -> Document:
    at = round(expected.at * slo.scale.factor * 1000)
    samples = [{"labels": "{}", "value": 1}] if expected.there else []
    return {"expr": f"count({expected.series})", "eval_time": f"{at}ms", "exp_samples": samples}


def _page(slo: Slo) -> str:
    """Return the series that shows a page: its alert, or for a part, whose alert joins the whole, its burn rate."""
    return alerts.burning(slo, FASTEST) if slo.part.labels else _firing(slo, Severity.PAGE)


def _firing(slo: Slo, severity: Severity) -> str:
    return f'ALERTS{{alertname="{alert_name(severity)}", alertstate="firing", {slo.selector}}}'


def _later(seconds: float, *, there: bool) -> float:
    """Return when rules are evaluated next, a little before or after failures have lasted for so long."""
    steps = _steps(seconds * _MARGIN) + 2 if there else int(seconds / _MARGIN / EVERY)
    return (_BEFORE + 1 + steps) * EVERY


def _steps(seconds: float) -> int:
    return round(seconds / EVERY)
