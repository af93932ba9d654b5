from dataclasses import replace

import pytest

from loadtest.bench.report import HEAD, ROWS, Row, line, markdown, number
from loadtest.bench.summary import Summary

NGINX = Summary(
    name="nginx",
    plain_us=17.0,
    one_chunk_us=23.0,
    chunk_us=14.0,
    burst_us=84.0,
    idle_stream_kb=17.6,
    added_ttft_ms=(0.13, 0.26),
    added_relay_ms=(0.03, 0.04),
    connects_per_10k=2.0,
    errors=0,
    noisy=0,
)


def row(title: str) -> Row:
    return next(each for each in ROWS if each.title.startswith(title))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25"), (2.0, "2"), (17.34, "17.3"), (843.2, "843"), (-0.001, "0"), (-0.12, "-0.12"), (100.0, "100")],
)
def test_numbers_have_three_figures_and_no_idle_zeros(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("plain_us", "grade", "reached"), [(2.2 * 17, "aim", True), (3.5 * 17, "yes", True), (3.6 * 17, "NO", False)]
)
def test_a_cost_is_judged_by_its_ratio_to_nginx(plain_us: float, grade: str, reached: bool) -> None:
    judged = line(row("CPU per plain request"), NGINX, replace(NGINX, plain_us=plain_us))
    assert (judged.cells[-1], judged.reached) == (grade, reached)


@pytest.mark.parametrize(("kilobytes", "grade"), [(6.0, "aim"), (10.0, "yes"), (10.1, "NO")])
def test_memory_is_judged_by_itself_whatever_nginx_needs(kilobytes: float, grade: str) -> None:
    judged = line(row("memory"), NGINX, replace(NGINX, idle_stream_kb=kilobytes))
    assert judged.cells[-1] == grade


@pytest.mark.parametrize(
    ("ttft", "grade"), [((0.25, 0.6), "aim"), ((0.2, 0.7), "yes"), ((0.2, 2.1), "NO"), ((0.6, 0.7), "NO")]
)
def test_both_percentiles_must_keep_their_limits(ttft: tuple[float, float], grade: str) -> None:
    assert line(row("added TTFT"), NGINX, replace(NGINX, added_ttft_ms=ttft)).cells[-1] == grade


def test_a_single_error_is_one_too_many() -> None:
    assert line(row("errors"), NGINX, replace(NGINX, errors=1)).reached is False


def test_a_row_without_a_limit_is_shown_and_not_judged() -> None:
    shown = line(row("CPU per 1-chunk stream"), NGINX, replace(NGINX, one_chunk_us=46.0))
    assert shown.cells[1:] == ("23", "46", "2x", "-", "-", "-")
    assert shown.reached is None


def test_what_was_not_measured_is_a_dash_and_reaches_nothing() -> None:
    without_nginx = line(row("CPU per plain request"), None, NGINX)
    assert without_nginx.cells[1:] == ("-", "17", "-", "3.5x", "2.2x", "-")
    assert without_nginx.reached is None


def test_a_ratio_to_nothing_is_a_dash() -> None:
    shown = line(row("added relay delay"), replace(NGINX, added_relay_ms=(-0.01, 0.04)), NGINX)
    assert shown.cells[3] == "-"


def test_the_table_has_a_line_for_each_row_and_columns_that_line_up() -> None:
    table = markdown([line(each, NGINX, NGINX) for each in ROWS]).splitlines()
    assert len(table) == len(ROWS) + 2
    assert {len(text) for text in table} == {len(table[0])}
    assert [cell.strip() for cell in table[0].strip("|").split("|")] == list(HEAD)
