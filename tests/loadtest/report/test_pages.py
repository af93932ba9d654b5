"""Reports as text: what every one must say, whatever the recording holds."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loadtest.report.page import write_report
from loadtest.report.recording import OK, Objective, Recording, Request
from loadtest.report.tables import objective
from loadtest.report.view import View
from tests.loadtest.report.synthetic import about, one_gateway, several_gateways

HOSTILE = '</script><script>alert(1)</script> | "a" & `b`'


class Tags(HTMLParser):
    """The tags of a page, and the text of its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def written(recording: Recording, folder: Path) -> tuple[str, str]:
    recording.write(folder)
    page = write_report(Recording.read(folder), folder)
    assert page == folder / "report.html"
    return page.read_text(), (folder / "report.md").read_text()


def test_a_report_tells_how_to_judge_and_repeat_the_run(tmp_path: Path) -> None:
    html, markdown = written(one_gateway(), tmp_path)
    for text in (html, markdown):
        for said in ("A slow engine, and a canary", "a processor", "0.1.0", "canary 25 %", "share this machine"):
            assert said in text
    assert "python -m loadtest.somewhere --seed 7 \\\n  --rate 20" in markdown
    assert "time scale" in markdown
    assert "cdn" not in re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)


def test_nothing_that_a_recording_holds_is_taken_for_markup(tmp_path: Path) -> None:
    recording = Recording(
        about(title=HOSTILE, notes=(HOSTILE,), command=HOSTILE),
        [Request(0.5, HOSTILE, status=200, outcome=OK, backend=HOSTILE, version=HOSTILE, ttft=0.1, e2e=0.2)],
    )
    html, markdown = written(recording, tmp_path)
    plain, tags = Tags(), Tags()
    plain.feed(written(one_gateway(), tmp_path / "plain")[0])
    tags.feed(html)
    assert tags.seen.count("script") == plain.seen.count("script")
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert all("<script>" not in row for row in rows)
    for row in rows:
        if "alert" in row:
            assert r"\|" in row


def test_a_recording_of_nothing_says_so(tmp_path: Path) -> None:
    html, markdown = written(Recording(about(events=())), tmp_path)
    for text in (html, markdown):
        assert "This recording is empty: it holds no requests." in text


def test_time_that_is_not_real_is_said_first(tmp_path: Path) -> None:
    recording = replace(one_gateway(), about=about(time_scale=2.0))
    _, markdown = written(recording, tmp_path)
    assert markdown.splitlines()[2].startswith("> Not in real time: the time scale is 2")


def test_panels_without_anything_to_show_are_left_out(tmp_path: Path) -> None:
    figures = {}
    for name, recording in {"one": one_gateway(), "several": several_gateways()}.items():
        html, _ = written(recording, tmp_path / name)
        listed = json.loads(
            re.findall(r'<script type="application/json" id="figures">(.*?)</script>', html, re.DOTALL)[0]
        )
        assert all(figure["traces"] for figure in listed)
        figures[name] = {figure["key"] for figure in listed}
    assert {"time-itl", "told-burn", "by-version-time", "cdf-itl", "outcomes"} <= figures["one"]
    assert "told-burn" not in figures["several"]
    assert "cdf-itl" not in figures["several"]


@pytest.mark.parametrize(("tokens", "met"), [(100, "0.00 %"), (5000, "100.00 %")])
def test_a_long_prompt_has_its_own_threshold(tokens: int, met: str) -> None:
    wanted = Objective(ttft=0.5, long_prompts=((4096, 2.0),))
    requests = [Request(1.0, "chat", status=200, outcome=OK, prompt_tokens=tokens, ttft=1.0, tpot=0.01, e2e=2.0)]
    table = objective(View.of(Recording(about(objective=wanted), requests)))
    assert table.head[3] == "TTFT within 500 ms, 2000 ms from 4096 prompt tokens on (target 99 %)"
    assert table.rows[0][3] == met
