from dataclasses import replace
from typing import Any

import pytest

from loadtest.bench import report
from loadtest.bench.measure import LONGEST, PLAIN
from loadtest.bench.report import ROWS, Row, TableRow, head, lines, markdown, number
from loadtest.bench.summary import Summary

NGINX = Summary(
    plain_us=17.0,
    one_chunk_us=23.0,
    chunk_us=14.0,
    burst_us=84.0,
    idle_stream_kb=17.6,
    added_ttft_ms=(0.13, 0.26),
    added_relay_ms=(0.03, 0.04),
    connects_per_10k=2.0,
    body_us=dict.fromkeys(LONGEST, 330.0),
)
BUSY: dict[str, Any] = {"noisy": frozenset((PLAIN.name,))}


def row(title: str) -> Row:
    return next(each for each in ROWS if each.title.startswith(title))


def judged(title: str, *rounds: Summary, **others: list[Summary]) -> TableRow:
    """One row of "on" in these rounds, beside an nginx that is the same in each."""
    measured = {"nginx": [NGINX] * len(rounds), "on": list(rounds), **others}
    (found,) = lines([row(title)], measured)
    return found


def cell(found: TableRow, title: str, **others: Any) -> str:
    return found.cells[head({"nginx": [], "on": [], **others}).index(title)]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25"), (2.0, "2"), (17.34, "17.3"), (843.2, "843"), (-0.001, "0"), (-0.12, "-0.12"), (100.0, "100")],
)
def test_numbers_have_three_figures_and_no_idle_zeros(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("plain_us", "grade", "reached"), [(1.9 * 17, "aim", True), (2.7 * 17, "yes", True), (2.8 * 17, "NO", False)]
)
def test_a_cost_is_judged_by_its_ratio_to_nginx(plain_us: float, grade: str, reached: bool) -> None:
    found = judged("CPU per plain request", replace(NGINX, plain_us=plain_us))
    assert (found.cells[-1], found.reached) == (grade, reached)


def test_the_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    nginx = [replace(NGINX, plain_us=cost) for cost in (10.0, 20.0, 40.0)]
    on = [replace(NGINX, plain_us=cost) for cost in (30.0, 40.0, 80.0)]
    found = judged("CPU per plain request", *on, nginx=nginx)
    assert (cell(found, "nginx"), cell(found, "on"), cell(found, "on / nginx")) == ("20", "40", "2x")


@pytest.mark.parametrize(("kilobytes", "grade"), [(6.0, "aim"), (9.0, "yes"), (9.1, "NO")])
def test_memory_is_judged_by_itself_whatever_nginx_needs(kilobytes: float, grade: str) -> None:
    assert judged("memory", replace(NGINX, idle_stream_kb=kilobytes)).cells[-1] == grade


@pytest.mark.parametrize(
    ("ttft", "grade"), [((0.15, 0.4), "aim"), ((0.1, 0.7), "yes"), ((0.1, 0.9), "NO"), ((0.3, 0.4), "NO")]
)
def test_both_percentiles_must_keep_their_limits(ttft: tuple[float, float], grade: str) -> None:
    assert judged("added TTFT", replace(NGINX, added_ttft_ms=ttft)).cells[-1] == grade


def test_a_single_error_in_any_round_of_either_row_set_is_one_too_many() -> None:
    assert judged("errors", NGINX, replace(NGINX, errors=1), NGINX).reached is False
    assert judged("errors", NGINX, off=[replace(NGINX, errors=1)]).reached is False
    assert judged("errors", NGINX, off=[NGINX]).reached is True


@pytest.mark.parametrize(
    ("title", "of", "factor", "grade"),
    [("CPU per plain request", "plain_us", 0.99, "aim"), ("CPU per plain request", "plain_us", 1.01, "NO"),
     ("CPU per relayed chunk", "chunk_us", 1.05, "aim"), ("CPU per relayed chunk", "chunk_us", 1.06, "NO")],
)  # fmt: skip
def test_it_has_to_be_below_each_router_in_the_same_run(title: str, of: str, factor: float, grade: str) -> None:
    cost: dict[str, Any] = {of: getattr(NGINX, of) / factor}
    dear: dict[str, Any] = {of: 900.0}
    routers = {"vllm-router": [replace(NGINX, **cost)], "sglang-router": [replace(NGINX, **dear)]}
    found = judged(title, NGINX, **routers)
    assert found.cells[-1] == grade
    assert found.cells[6] == f"{number(factor)}x"


class TestNoise:
    def test_a_busy_round_is_left_out_where_there_are_others(self) -> None:
        found = judged("CPU per plain request", replace(NGINX, plain_us=900.0, **BUSY), NGINX, NGINX)
        assert (cell(found, "on"), cell(found, "on / nginx"), found.cells[-1]) == ("17", "1x", "aim")

    def test_what_has_no_quiet_round_is_marked_and_not_judged(self) -> None:
        found = judged("CPU per plain request", replace(NGINX, plain_us=900.0, **BUSY))
        assert (cell(found, "nginx"), cell(found, "on"), cell(found, "on / nginx")) == ("17", "900*", "52.9x*")
        assert (found.cells[-1], found.reached, found.noisy) == ("noisy", None, True)

    def test_of_another_load_it_changes_nothing(self) -> None:
        assert judged("CPU per 1-chunk stream", replace(NGINX, **BUSY)).cells[-1] == "aim"


def test_a_row_without_a_limit_is_shown_and_not_judged() -> None:
    found = judged("added relay delay", replace(NGINX, added_relay_ms=(0.06, 0.08)))
    assert found.cells[1:] == ("0.03 / 0.04", "-", "0.06 / 0.08", "-", "2x / 2x", "-", "-", "-")
    assert found.reached is None


def test_what_was_not_measured_is_a_dash_and_reaches_nothing() -> None:
    (found,) = lines([row("CPU per plain request")], {"on": [NGINX]})
    assert found.cells[1:] == ("-", "-", "17", "-", "-", "2.7x", "1.9x", "-")
    assert found.reached is None


def test_a_ratio_to_nothing_is_a_dash() -> None:
    found = judged("added relay delay", NGINX, nginx=[replace(NGINX, added_relay_ms=(-0.01, 0.04))])
    assert cell(found, "on / nginx") == "-"


def test_the_table_has_a_line_for_each_row_and_columns_that_line_up() -> None:
    measured = {"nginx": [NGINX], "on": [NGINX], "off": [NGINX], "vllm-router": [NGINX], "sglang-router": [NGINX]}
    table = markdown(lines(ROWS, measured), head(measured)).splitlines()
    assert len(table) == len(ROWS) + 2
    assert {len(text) for text in table} == {len(table[0])}
    assert "on / vllm-router" in table[0]


def test_the_table_beside_others_has_a_line_for_each_gateway_with_its_ratio() -> None:
    measured = {"nginx": [NGINX], "on": [replace(NGINX, plain_us=34.0)]}
    table = report.beside(ROWS[:2], measured).splitlines()
    assert [text.split("|")[2].strip() for text in table[2:]] == ["17", "34 (2x)"]


def test_long_prompts_show_what_a_megabyte_costs() -> None:
    table = report.bodies({"nginx": [NGINX], "HAProxy": [Summary()]}).splitlines()
    assert [text.split("|")[2].strip() for text in table if "1 MB" in text] == ["0.33 (0.33)", "0.33 (0.33)"]
    assert "HAProxy" not in table[0]
