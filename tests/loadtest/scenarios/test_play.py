"""Playing a scenario for real: engines and gateways as processes."""

import asyncio
from pathlib import Path

import pytest

from loadtest.report.recording import CUT, FAILED, OK, REFUSED, Recording
from loadtest.scenarios.gateways import ROUND_ROBIN, TIDEGATE
from loadtest.scenarios.play import play
from loadtest.scenarios.runs import judged
from loadtest.scenarios.scenario import Scenario

BRIEF = {
    "name": "brief",
    "title": "Brief",
    "about": "Two engines, one of which breaks its streams.",
    "seconds": 3.0,
    "judged": [0, 3],
    "engines": {"gpu": {"count": 2, "engine": {"prefix_caching": 0}}},
    "load": [{"name": "chat", "rate": 15, "prompt_tokens": [50, 200], "output_tokens": [5, 10]}],
    "objective": {"ttft": "1m", "tpot": "1m"},
}


def played(tmp_path: Path, **changes: object) -> tuple[Scenario, Recording]:
    scenario = Scenario.model_validate({**BRIEF, **changes})
    return scenario, asyncio.run(play(scenario, 1, [TIDEGATE, ROUND_ROBIN], tmp_path)).recording


def test_gateways_see_the_same_requests_at_the_same_time_and_are_judged_apart(tmp_path: Path) -> None:
    scenario, recording = played(tmp_path)
    by = {name: [each for each in recording.requests if each.gateway == name] for name in (TIDEGATE, ROUND_ROBIN)}
    seen = [[(each.at, each.prompt_tokens) for each in requests] for requests in by.values()]
    assert seen[0] == seen[1]
    assert len(seen[0]) > 20
    for request in recording.requests:
        assert (request.status, request.outcome) == (200, OK)
        assert request.ttft is not None
        assert request.e2e is not None
        assert 0 < request.ttft <= request.e2e
        assert 0 < request.output_tokens <= 10
        assert request.backend
    assert sum(recording.gaps.values()) == sum(each.output_tokens - 1 for each in recording.requests)
    runs = judged(scenario, recording)
    assert [(run.gateway, run.missed) for run in runs] == [(TIDEGATE, 0), (ROUND_ROBIN, 0)]
    recording.write(tmp_path / "recording")
    assert len(Recording.read(tmp_path / "recording").requests) == len(recording.requests)


@pytest.mark.parametrize(
    ("faults", "outcomes"),
    [({"cut_after": 2}, {CUT}), ({"error_rate": 1.0}, {FAILED}), ({"error_rate": 1.0, "error_code": 429}, {REFUSED})],
    ids=["cut", "failed", "refused"],
)
def test_what_goes_wrong_is_recorded_as_what_it_is(
    faults: dict[str, object], outcomes: set[str], tmp_path: Path
) -> None:
    both = {"at": 1.0, "until": 6.0, "engines": ["gpu-0", "gpu-1"], "set": faults, "label": "both are sick"}
    # Whom all engines say 429 to waits in vain, and briefly.
    brief = {"classes": {"standard": {"priority": 10, "max_queue_wait": "300ms"}}}
    scenario, recording = played(tmp_path, faults=[both], tidegate=brief)
    before = {each.outcome for each in recording.requests if each.e2e is not None and each.at + each.e2e < 1.0}
    during = {each.outcome for each in recording.requests if each.at > 2.3}
    assert before == {OK}
    assert during & outcomes
    assert during <= outcomes | {REFUSED, FAILED}
    for run in judged(scenario, recording):
        assert run.missed == run.failed + run.cut + run.refused > 0
    assert [event.label for event in recording.about.events] == ["both are sick"]
