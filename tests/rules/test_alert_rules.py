"""The alerts in time: how long they stay, and what they make of slow burns, pauses and many replicas."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gateway.config.table import RouteTable, VersionSpec
from gateway.rules.prometheus import rules_file
from gateway.rules.recordings import EVERY
from gateway.rules.slo import Scale, slos
from tests.rules.made import BY_LENGTH, SMALL, needs_promtool, promtool, table, write

pytestmark = needs_promtool
PAGE = 'ALERTS{alertname="TidegateErrorBudgetBurnPage", alertstate="firing"}'
TICKET = 'ALERTS{alertname="TidegateErrorBudgetBurnTicket", alertstate="firing"}'
HOUR = 120
"""Evaluations."""


def counters(*rates: tuple[int, int, int]) -> tuple[str, str]:
    """Return good and bad events of (evaluations, good each, bad each), one after another, as promtool writes them."""
    good, bad, columns = 0, 0, (["0"], ["0"])
    for steps, well, failed in rates:
        columns[0].append(f"{good + well}+{well}x{steps - 1}")
        columns[1].append(f"{bad + failed}+{failed}x{steps - 1}")
        good, bad = good + steps * well, bad + steps * failed
    return " ".join(columns[0]), " ".join(columns[1])


def holds(
    folder: Path,
    series: dict[str, str],
    *expected: tuple[int, str, float | None],
    routes: RouteTable,
    every: str = "1m",
) -> None:
    """Let promtool play counters, and check (evaluation, query, value), None for no value.

    Prometheus evaluates rules every 30 s, which takes twice the CPU time and shows the same in most cases.
    """
    write(folder / "rules.yaml", rules_file(slos(routes, "docs/alerting.md", Scale())))
    tests = [
        {
            "expr": query,
            "eval_time": f"{round(at * EVERY)}s",
            "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
        }
        for at, query, value in expected
    ]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    case = {"interval": "30s", "input_series": inputs, "promql_expr_test": tests}
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": every, "tests": [case]}
    write(folder / "tests.yaml", document)
    result = promtool(folder, "test", "rules", "tests.yaml")
    assert result.returncode == 0, result.stdout + result.stderr


def events(good: str, bad: str, **labels: str) -> dict[str, str]:
    """Return the two counters of an SLI."""
    names = {"model": "m", "version": "v1", "objective": "small", "sli": "availability", "prompt_tokens": ""} | labels
    written = ", ".join(f'{name}="{value}"' for name, value in names.items())
    return {
        f'tidegate_sli_events_total{{{written}, verdict="{verdict}"}}': values
        for verdict, values in (("good", good), ("bad", bad))
    }


def played(
    folder: Path, rates: Sequence[tuple[int, int, int]], *expected: tuple[int, str, float | None], every: str = "1m"
) -> None:
    """Play one model with one objective of 99.9 % availability."""
    holds(folder, events(*counters(*rates)), *expected, routes=table(m=SMALL), every=every)


def two_versions() -> RouteTable:
    """Return routes with a model of two versions."""
    one = table(m=SMALL)
    model = replace(one.models["m"], versions={name: VersionSpec(name, ("p",), "served") for name in ("v1", "v2")})
    return replace(one, models={"m": model}, names={"m": model})


def fires(query: str, *at: int) -> list[tuple[int, str, float | None]]:
    return [(each, f"count({query})", 1) for each in at]


def silent(query: str, *at: int) -> list[tuple[int, str, float | None]]:
    return [(each, f"count({query})", None) for each in at]


def test_a_fault_of_five_minutes_each_hour_is_one_page_and_ends_an_hour_after_the_last(tmp_path: Path) -> None:
    hours = [(10, 0, 300), (HOUR - 10, 300, 0)] * 3
    began, last = HOUR, 3 * HOUR + 10
    played(
        tmp_path,
        [(HOUR, 300, 0), *hours, (HOUR, 300, 0)],
        *fires(PAGE, *range(began + 5, last, 10)),
        *silent(PAGE, began, last + 2 * 70),
        *silent(TICKET, *range(began, last, 40)),
    )


def test_a_burst_in_a_pause_stays_without_a_page_when_silence_follows(tmp_path: Path) -> None:
    played(tmp_path, [(HOUR, 0, 0), (1, 0, 20), (2 * HOUR, 0, 0)], *silent(PAGE, *range(HOUR, 3 * HOUR, 5)))


def test_one_failure_an_hour_at_one_request_a_minute_pages_no_one(tmp_path: Path) -> None:
    hour = [(1, 0, 1), (1, 0, 0), *[(1, 1, 0), (1, 0, 0)] * 59]
    played(tmp_path, hour * 4, *silent(PAGE, *range(0, 4 * HOUR, 7)))


def test_a_total_outage_at_one_request_in_ten_minutes_pages(tmp_path: Path) -> None:
    """The short window never holds the few events that confirm: a quarter of the long one stands in."""
    minutes = 20
    played(
        tmp_path,
        [*[(1, 1, 0), (minutes - 1, 0, 0)] * 12, *[(1, 0, 1), (minutes - 1, 0, 0)] * 10],
        *silent(PAGE, 12 * minutes, 15 * minutes),
        *fires(PAGE, 19 * minutes + 2),
        *silent(TICKET, *range(16 * minutes, 22 * minutes, 5)),
        every="30s",  # it fires at the first evaluation that can tell
    )


def test_a_slow_burn_is_a_ticket_alone_and_its_budget_is_projected_after_a_day(tmp_path: Path) -> None:
    """26 hours at five times the rate are a fifth of 28 days' budget. Steady traffic needs few evaluations."""
    left = "slo:period_error_budget_remaining:ratio"
    holds(
        tmp_path,
        events(*counters((26 * HOUR, 19_900, 100))),
        *silent(PAGE, 6 * HOUR, 20 * HOUR, 26 * HOUR),
        *fires(TICKET, 16 * HOUR, 26 * HOUR),
        *silent(left, 20 * HOUR),
        (26 * HOUR, f"round(sum({left}), 0.1)", 0.8),
        (26 * HOUR, "round(sum(slo:sli_events:usual_rate), 10)", 670),
        routes=table(m=SMALL),
        every="5m",
    )


def test_versions_that_fail_together_are_one_page(tmp_path: Path) -> None:
    rates = [(HOUR, 3000, 0), (20, 0, 3000)]
    both = events(*counters(*rates), version="v1") | events(*counters(*rates), version="v2")
    whole = PAGE.replace("}", ', version=""}')
    holds(tmp_path, both, *fires(PAGE, HOUR + 12, HOUR + 20), *fires(whole, HOUR + 12), routes=two_versions())


def test_a_candidate_that_fails_at_one_percent_of_requests_is_named_by_its_version(tmp_path: Path) -> None:
    stable, candidate = [(HOUR + 20, 29_700, 0)], [(HOUR, 300, 0), (20, 0, 300)]
    series = events(*counters(*stable), version="v1") | events(*counters(*candidate), version="v2")
    named = PAGE.replace("}", ', version="v2"}')
    holds(tmp_path, series, *fires(PAGE, HOUR + 12), *fires(named, HOUR + 12), routes=two_versions())


def test_long_prompts_that_are_late_are_told_of_when_their_model_does_not_burn(tmp_path: Path) -> None:
    """A class of prompt lengths has an alert of its own, which belongs to the model's as soon as that fires."""
    routes = table(m=BY_LENGTH)
    for others, told in ((3000, "4096+"), (0, "")):
        series: dict[str, str] = {}
        for prompts, rates in (("<4096", [(HOUR + 40, others, 0)]), ("4096+", [(HOUR, 30, 0), (40, 0, 30)])):
            series |= events(*counters(*rates), objective=BY_LENGTH.name, sli="ttft", prompt_tokens=prompts)
        named = f'{PAGE.removesuffix("}")}, prompt_tokens="{told}"}}'
        holds(tmp_path, series, *fires(PAGE, HOUR + 30), *fires(named, HOUR + 30), routes=routes)
