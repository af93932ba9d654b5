"""A report in a real browser: every plot is drawn, nothing is complained of, and its figures are those of the CSV."""

import asyncio
import csv
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import IO

import pytest

from loadtest.report.page import write_report
from loadtest.report.plots import panels
from loadtest.report.recording import OK, Recording
from loadtest.report.view import View
from tests.loadtest.report.synthetic import one_gateway, several_gateways
from tests.waiting import DEADLINE

pytestmark = pytest.mark.anyio
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here; `.ci/run` installs it")
LOCUST = """Type,Name,Request Count,Failure Count,Median Response Time,Average Response Time,Requests/s,95%,99%
POST,chat,1200,3,953.2461,948.2,20.5,1800,2100
TTFT,chat,1197,0,42.0,44.13,20.4,80,97
,Aggregated,2397,3,60.0,500.1,40.9,1700,2000
"""


@dataclass
class Drawn(HTMLParser):
    """The page as it stands after its scripts ran: lines by plot, as its legend has them, and the cells of tables."""

    lines: dict[str, int] = field(default_factory=dict)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    _plot: str = ""
    _table: str = ""
    _cell: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        classes = said.get("class", "").split()
        if tag == "div" and "plot" in classes:
            self._plot = said["id"]
            self.lines[self._plot] = -1  # the legend also has a row for x
        elif tag == "tr" and "u-series" in classes:
            self.lines[self._plot] += 1
        elif tag == "table" and "id" in said:
            self._table = said["id"]
            self.tables[self._table] = []
        elif tag == "tr" and self._table:
            self.tables[self._table].append([])
        elif tag in {"td", "th"} and self._table:
            self.tables[self._table][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self._cell = False
        elif tag == "table":
            self._table = ""

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.tables[self._table][-1][-1] += data


async def _started(page: Path, profile: Path, out: IO[bytes], err: IO[bytes]) -> asyncio.subprocess.Process:
    assert BROWSER is not None
    return await asyncio.create_subprocess_exec(
        BROWSER,
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *(f"--user-data-dir={profile}", "--window-size=1400,2000", "--virtual-time-budget=10000"),
        *("--enable-logging=stderr", "--dump-dom", page.as_uri()),
        stdout=out,
        stderr=err,
    )


async def opened(page: Path, profile: Path) -> tuple[Drawn, list[str]]:
    """Open a page and return it as it was drawn, and what the browser's console said."""
    dom, log = profile.with_name("dom.html"), profile.with_name("browser.log")
    with dom.open("wb") as out, log.open("wb") as err:  # files: a child of the browser may outlive it and hold a pipe
        process = await _started(page, profile, out, err)
    try:
        async with asyncio.timeout(4 * DEADLINE):  # a browser takes some seconds of CPU
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    drawn = Drawn()
    drawn.feed(dom.read_text())
    return drawn, [line for line in log.read_text(errors="replace").splitlines() if "CONSOLE" in line]


@needs_browser
@pytest.mark.parametrize("recorded", [one_gateway(), several_gateways(4)], ids=["one gateway", "several"])
async def test_every_plot_is_drawn_and_nothing_is_complained_of(recorded: Recording, tmp_path: Path) -> None:
    recorded.write(tmp_path)
    recording = Recording.read(tmp_path)
    page = write_report(recording, tmp_path)
    drawn, complaints = await opened(page, tmp_path / "profile")
    assert complaints == []
    expected = {panel.key: len(panel.traces) for panel in panels(View.of(recording))}
    assert len(expected) > 8
    assert drawn.lines == expected


@needs_browser
async def test_figures_are_those_of_the_csv(tmp_path: Path) -> None:
    one_gateway().write(tmp_path)
    table = tmp_path / "locust_stats.csv"
    table.write_text(LOCUST)
    drawn, complaints = await opened(
        write_report(Recording.read(tmp_path), tmp_path, table=table), tmp_path / "profile"
    )
    assert complaints == []
    assert drawn.tables["locust"][0] == LOCUST.splitlines()[0].split(",")
    assert drawn.tables["locust"][1] == ["POST", "chat", "1200", "3", "953", "948", "20.5", "1800", "2100"]
    with (tmp_path / "requests.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = {row[0]: row for row in drawn.tables["outcomes"][1:]}
    for name in {row["name"] for row in rows}:
        mine = [row for row in rows if row["name"] == name]
        assert shown[name][1:3] == [str(len(mine)), str(sum(row["outcome"] == OK for row in mine))]
    percentiles = {(row[0], row[1]): row for row in drawn.tables["percentiles"][1:]}
    ttft = sorted(float(row["ttft"]) for row in rows if row["name"] == "chat" and row["outcome"] == OK and row["ttft"])
    count, p50, _, p99, longest = percentiles["TTFT", "chat"][2:]
    assert int(count) == len(ttft)
    for text, rank in ((p50, 50), (p99, 99), (longest, 100)):
        assert float(text) == pytest.approx(1000 * ttft[-(-len(ttft) * rank // 100) - 1], rel=0.005, abs=0.5)
