"""Reports as text: what every one must say, whatever the recording holds."""

import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from random import Random

import pytest

from loadtest.report.page import write_report
from loadtest.report.plots import panels
from loadtest.report.recording import FAILED, OK, Objective, Recording, Request, Sample
from loadtest.report.tables import objective
from loadtest.report.verdict import slis, verdicts
from loadtest.report.view import View
from tests.loadtest.report.synthetic import about, one_gateway, request, several_gateways

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


def test_the_verdict_comes_first_in_words(tmp_path: Path) -> None:
    html, markdown = written(one_gateway(), tmp_path)
    assert markdown.splitlines()[2] == "**Objective missed: Availability**"
    assert "2.07 points short of the target 99.9 %" in markdown
    assert '<section class="verdict missed">' in html
    assert html.index('class="verdict') < html.index("Over time")
    answered = [replace(each, outcome=OK) for each in one_gateway().requests]
    html, markdown = written(replace(one_gateway(), requests=answered), tmp_path)
    assert markdown.splitlines()[2] == "**Objective met**"
    assert '<section class="verdict met">' in html


def test_each_of_several_gateways_has_its_own_verdict(tmp_path: Path) -> None:
    _, markdown = written(several_gateways(2), tmp_path)
    assert re.findall(r"\*\*(gateway-\d): objective missed", markdown) == ["gateway-0", "gateway-1"]


def test_a_run_without_an_answer_has_a_verdict_too(tmp_path: Path) -> None:
    _, markdown = written(Recording(about(), [Request(1.0, "chat", status=502, e2e=0.1)]), tmp_path)
    assert "missed: Availability: 0 % of 1 request answered whole; 99.9 points short of the target 99.9 %" in markdown
    assert "not measured: TTFT: no stream was answered; target 99 %" in markdown


def test_a_verdict_says_when_most_requests_missed_it() -> None:
    crowd = [Request(40.5, "chat", status=200, outcome=OK, ttft=0.9, e2e=1.0) for _ in range(9)]
    quiet = [Request(at, "chat", status=200, outcome=OK, ttft=0.1, e2e=1.0) for at in range(100)]
    found = verdicts(View.of(Recording(about(), [*quiet, *crowd])))[""][1].words()
    assert found.endswith("; p99 900 ms; 9 of 9 misses between 40 and 45 s (gpu-1 slowed 5 times).")
    spread = [replace(each, ttft=0.9) for each in quiet]
    assert "misses between" not in verdicts(View.of(Recording(about(), spread)))[""][1].words()


def test_what_an_objective_has_no_target_for_is_not_judged(tmp_path: Path) -> None:
    wanted = Objective(availability=0.0, ttft=0.0, ttft_target=0.0)
    _, markdown = written(replace(one_gateway(), about=about(objective=wanted)), tmp_path)
    verdict, _, reason = markdown.splitlines()[2:5]
    assert verdict == "**Objective met**"
    assert reason.startswith("- met: TPOT")
    view = View.of(Recording(about(objective=wanted), [Request(1.0, "chat", outcome=OK, ttft=9.0, tpot=0.01, e2e=9.1)]))
    assert objective(view).head == ("request", "requests", "TPOT within 50 ms (target 99 %)", "objective")
    assert [panel.threshold for panel in panels(view) if panel.key in ("time-ttft", "time-tpot")] == [None, 50.0]
    assert wanted.is_met_by(view.recording.requests[0])


def test_a_share_is_not_rounded_up_to_its_target() -> None:
    requests = [Request(1.0, "chat", status=200, outcome=OK if number else FAILED) for number in range(1001)]
    availability, *_ = slis(requests[:999], Objective())
    assert (availability.state, availability.shown) == ("missed", "99.89 %")
    assert slis(requests, Objective())[0].state == "met"


def test_gaps_within_one_read_do_not_stretch_the_axis() -> None:
    recording = one_gateway()
    recording.gaps.update({(second, 0.0): 100 for second in range(120)})
    (over_time, distribution) = (panel for panel in panels(View.of(recording)) if panel.key in ("time-itl", "cdf-itl"))
    assert "% of the gaps are 0, since their events arrived in one read" in over_time.note
    assert min(distribution.traces[0]["x"]) > 1
    assert distribution.traces[0]["y"][0] > 60


def test_a_page_of_a_long_run_with_many_backends_stays_below_a_megabyte(tmp_path: Path) -> None:
    rng = Random(0)
    names = [f"gpu/http://10.0.0.{number}:8000" for number in range(64)]
    requests = [replace(request(rng, 2.0 * at, "chat"), backend=rng.choice(names)) for at in range(10_000)]
    series = [
        Sample(at, kind, name, rng.random())
        for at in range(0, 20_000, 80)
        for kind in ("burn", "share")
        for name in names
    ]
    html, _ = written(Recording(about(seconds=20_000.0), requests, Counter(), series), tmp_path)
    assert len(html) < 1_000_000
    assert "Each point is the highest of 4 samples." in html


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
        assert all(panel["traces"] for panel in listed["panels"])
        figures[name] = {panel["key"] for panel in listed["panels"]}
    assert {"time-itl", "told-burn", "by-version-time", "cdf-itl", "outcomes"} <= figures["one"]
    assert "told-burn" not in figures["several"]
    assert "cdf-itl" not in figures["several"]


@pytest.mark.parametrize(("tokens", "met"), [(100, "0 %"), (5000, "100 %")])
def test_a_long_prompt_has_its_own_threshold(tokens: int, met: str) -> None:
    wanted = Objective(ttft=0.5, long_prompts=((4096, 2.0),))
    requests = [Request(1.0, "chat", status=200, outcome=OK, prompt_tokens=tokens, ttft=1.0, tpot=0.01, e2e=2.0)]
    table = objective(View.of(Recording(about(objective=wanted), requests)))
    assert table.head[3] == "TTFT within 500 ms, 2000 ms from 4096 prompt tokens on (target 99 %)"
    assert table.rows[0][3] == met
