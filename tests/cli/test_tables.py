"""What is shown of a table where the terminal is too narrow for all of it."""

from io import StringIO

import pytest
from rich.console import Console

from gateway.cli.tables import PlainTable

BACKEND = "gpu/vllm-gpu-0.vllm-gpu.serving.svc.cluster.local:8000"
WHY = "not ready: the probe had no answer in time"


def shown(table: PlainTable, width: int, *, terminal: bool = True) -> list[str]:
    screen = StringIO()
    Console(file=screen, width=width, force_terminal=terminal, color_system=None).print(table)
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert all(len(line) <= width for line in lines)
    return lines


def backends(*least: str) -> PlainTable:
    table = PlainTable(("backend", "weight", "in flight", "predicted TTFT", "refused"), least)
    table.row("gpu/a:1", "1.00", "0", "75.0 ms", "")
    table.row(BACKEND, "0.50", "12", "80.0 ms", WHY)
    return table


def test_a_wide_terminal_gets_all_on_one_line() -> None:
    header, *rows = shown(backends("weight", "in flight"), 200)
    assert header.split("  ")[0] == "backend"
    assert "weight" in header
    assert len(rows) == 2


def test_a_narrower_one_lacks_as_many_of_the_least_important_columns_as_it_must() -> None:
    *_, note = shown(backends("weight", "in flight"), 72)
    assert note == "not shown on a terminal as narrow as this: weight"
    *_, note = shown(backends("weight", "in flight"), 64)
    assert note == "not shown on a terminal as narrow as this: weight, in flight"


def test_the_columns_that_stay_are_whole_and_only_long_cells_go_on_below() -> None:
    upper, lower, first, *rest = shown(backends("weight"), 72)
    assert upper.split() == ["in", "predicted"]
    assert lower.split() == ["backend", "flight", "TTFT", "refused"]
    assert first.split() == ["gpu/a:1", "0", "75.0", "ms"]
    assert "".join(line[: lower.index("flight")].strip() for line in rest[:-1]) == BACKEND
    assert " ".join(line[lower.index("refused") :].strip() for line in rest[:-1]).split() == WHY.split()


@pytest.mark.parametrize("width", [20, 30])
def test_where_even_what_is_left_does_not_fit_cells_go_on_below_and_none_is_cut(width: int) -> None:
    table = PlainTable(("model", "objective"), ("pool",))
    table.row("llama-3.1-8b-instruct", "interactive-chats")
    _, *rows = shown(table, width)
    ends = rows[0].index("inter")
    assert "".join(line[:ends].strip() for line in rows) == "llama-3.1-8b-instruct"
    assert "".join(line[ends:].strip() for line in rows) == "interactive-chats"


def test_a_file_gets_all_columns() -> None:
    header, *rows = shown(backends("weight", "in flight"), 100, terminal=False)
    assert "weight" in header
    assert "not shown" not in rows[-1]


def test_a_table_without_rows_is_its_header() -> None:
    assert shown(PlainTable(("a long header", "another long header"), ()), 20)
