from io import StringIO

import pytest
from rich.console import Console

from gateway.cli.demo.figures import BackendFigures, Figures
from gateway.cli.demo.table import line, tables

BUSY = Figures(
    seconds=30.0,
    requests=5999,
    rate=199.97,
    availability=0.99951,
    in_flight=64,
    ttft_p50=0.0213,
    ttft_p99=12.3456,
    itl_p99=0.0724,
    backends=(
        BackendFigures("cpu/127.0.0.1:65535", "cpu", "not_ready", 12, 30.0, 0.15, 1.25),
        BackendFigures("gpu/127.0.0.1:65533", "gpu", "ready", 26, 80.0, 0.4, 0.021),
        BackendFigures("gpu/127.0.0.1:65534", "gpu", "ready", 26, 90.0, 0.45, 0.021),
    ),
)
IDLE = Figures(
    0.0, 0, 0.0, None, 0, None, None, None, (BackendFigures("cpu/a:1", "cpu", "unknown", 0, 0.0, None, None),)
)


def printed(figures: Figures) -> list[list[str]]:
    console = Console(width=80, record=True, file=StringIO())
    console.print(tables(figures, "30 s"))
    return [line.split() for line in console.export_text().splitlines()]


def test_the_tables_fit_a_terminal_of_eighty_columns() -> None:
    rows = printed(BUSY)

    assert ["5999", "200.0", "21", "ms", "12346", "ms", "72", "ms", "99.95", "%", "64"] in rows
    assert ["127.0.0.1:65535", "cpu", "not_ready", "12", "30.0", "15", "%", "1250", "ms"] in rows
    assert ["127.0.0.1:65534", "gpu", "ready", "26", "90.0", "45", "%", "21", "ms"] in rows
    assert not any("…" in word for row in rows for word in row)


def test_what_is_not_known_is_a_dash() -> None:
    rows = printed(IDLE)

    assert ["0", "0.0", "-", "-", "-", "-", "0"] in rows
    assert ["a:1", "cpu", "unknown", "0", "0.0", "-", "-"] in rows


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (
            BUSY,
            "  90 s  200.0 req/s  TTFT p50 21 ms p99 12346 ms  ITL p99 72 ms  availability 99.95 %  in flight 64"
            "  cpu 15 %  gpu 85 %",
        ),
        (IDLE, "  90 s  0.0 req/s  TTFT p50 - p99 -  ITL p99 -  availability -  in flight 0  cpu -"),
    ],
    ids=["busy", "idle"],
)
def test_a_line_has_the_same_with_the_share_of_each_pool(figures: Figures, expected: str) -> None:
    assert line(figures, 90.0) == expected
