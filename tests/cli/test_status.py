"""`tidegate status` and `tidegate slo` of a gateway whose engine fails, on a clock that is set forward."""

import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.cli.problems import FEWEST_FAILURES
from gateway.cli.status import fleet_words, limits_table, members_table, quota_words, waiting_words
from gateway.policy.canary.rollout import Phase
from tests.cli.test_asking import tidegate
from tests.e2e.fakes import backends, good
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.processes import engine
from tests.e2e.processes import running as process
from tests.e2e.test_canary import failing, in_phase, routes
from tests.e2e.test_slo import Ahead
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio
OBJECTIVES = {"o": {"availability": {"target": 99.9}, "ttft": {"target": 99, "under": "500ms"}}}


@asynccontextmanager
async def simulated(folder: Path) -> AsyncIterator[tuple[Running, str, Ahead]]:
    """Run a gateway before one simulated engine; yield it, the engine's URL and the clock of SLIs and alerts."""
    async with engine() as process:
        url = process.urls[0]
        text = json.dumps({"objectives": OBJECTIVES, "models": {"m": {"backends": [url], "objective": "o"}}})
        async with gateway(folder, text) as running:
            clock = Ahead(running.app.control.outlier_detector)
            running.app.control.alerter._clock = clock
            yield running, url, clock


async def requests(running: Running, clock: Ahead, count: int, seconds: float) -> None:
    """Send requests one after another, `seconds` apart on the clock of SLIs."""
    for _ in range(count):
        await ask(running.port, chat(stream=False, max_tokens=1))
        await running.quiet()
        clock.jump(seconds)
        running.app.control.outlier_detector.detect()
        running.app.control.alerter.evaluate()


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


async def test_a_lone_engine_that_refuses_everything_is_a_problem_at_once(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (running, url, clock), patient_client(trust_env=False) as web:
        await web.post(f"{url}/sim/faults", json={"error_rate": 1.0, "error_code": 503})
        await requests(running, clock, FEWEST_FAILURES - 1, 0.5)
        assert "all failed" not in (await tidegate(running, "status")).stdout
        await requests(running, clock, 1, 0.5)
        wrong = lines((await tidegate(running, "status", status=1)).stdout)
        said = wrong.index("! the last 5 requests of m (o) all failed, the latest 1 s ago")
        assert wrong[said + 1].startswith("tidegate slo m")
        await web.post(f"{url}/sim/faults", json={"error_rate": 0.0})
        await requests(running, clock, 1, 0.5)
        assert "all failed" not in (await tidegate(running, "status")).stdout


async def test_with_a_page_firing_status_exits_1_names_it_and_says_what_to_do(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (running, url, clock), patient_client(trust_env=False) as web:
        await requests(running, clock, 5, 10.0)
        assert "no problem found" in (await tidegate(running, "status")).stdout

        await web.post(f"{url}/sim/faults", json={"error_rate": 1.0, "error_code": 500})
        await requests(running, clock, 30, 30.0)
        wrong = lines((await tidegate(running, "status", status=1)).stdout)
        (page,) = [line for line in wrong if line.startswith("! page since ")]
        assert "availability of m: at this rate" in page
        assert "30 of 35 requests failed in the last hour" in page
        assert wrong[wrong.index(page) + 1] == "tidegate slo m"
        (availability,) = [line for line in wrong if line.startswith("m o availability 99.9 %")]
        assert " page " in availability
        assert "30 of 35 missed so far" in availability

        told = json.loads((await tidegate(running, "status", "--json", status=1)).stdout)
        assert told["problems"][0]["command"] == "tidegate slo m"
        assert [each["severity"] for each in told["alerts"]] == ["page"]


async def test_after_40_s_one_column_says_so_and_a_line_says_what_a_page_waits_for(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (running, url, clock), patient_client(trust_env=False) as web:
        for fails, count in ((0.0, 10), (1.0, 5), (0.0, 5), (1.0, FEWEST_FAILURES - 1)):
            await web.post(f"{url}/sim/faults", json={"error_rate": fails, "error_code": 500})
            await requests(running, clock, count, 1.0)
        found = lines((await tidegate(running, "status")).stdout)
        (availability,) = [line for line in found if line.startswith("m o availability 99.9 %")]
        assert re.match(r"m o availability 99\.9 % 375\.00 \(\d\d s\) - - - - ", availability)
        said = "availability of m (o) burns at 375 times its budget: a page after 2 min of this, "
        assert any(line.startswith(said) and line.endswith(" s so far") for line in found)
        assert "no alert fires, and no other problem was found" in found
        told = lines((await tidegate(running, "slo", "m")).stdout)
        assert any(line.startswith(said) for line in told)


async def test_before_the_first_request_nothing_is_claimed(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (running, _, _):
        found = lines((await tidegate(running, "status")).stdout)
        (availability,) = [line for line in found if line.startswith("m o availability")]
        assert availability == "m o availability 99.9 % - - - - - no events yet"
        assert not any("100 %" in line for line in found if line.startswith("m o "))


async def test_slo_shows_targets_burn_rates_budgets_goodput_and_the_alert_that_fires(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (running, url, clock), patient_client(trust_env=False) as web:
        before = lines((await tidegate(running, "slo", "m")).stdout)
        assert before[0] == "m"
        assert "objective o (all classes), over 28d:" in before
        assert "goodput: no events yet" in before
        assert "no events yet: no alert can fire" in before
        assert any(
            line.startswith("ttft 99 % within 500ms; minimum failures for a page: 5 within 1 h, or") for line in before
        )
        assert "m o availability - - - - - - - - - - no events yet" in before

        await requests(running, clock, 5, 10.0)
        await web.post(f"{url}/sim/faults", json={"error_rate": 1.0, "error_code": 500})
        await requests(running, clock, 30, 30.0)
        after = lines((await tidegate(running, "slo", status=1)).stdout)
        assert "goodput: 5 of 35 requests since the start (14.29 %) met every target" in after
        assert any(line.startswith("! page: availability of m: at this rate") for line in after)
        (page,) = [line for line in after if line.startswith("m o availability page 1h/5m firing since ")]
        assert page.endswith("13.44")
        assert not any(line.startswith("m/default") for line in after)
        assert any(re.match(r"availability o backend m/127\.0\.0\.1:\d+ 30 35$", line) for line in after)
        told = json.loads((await tidegate(running, "slo", "m", "--json", status=1)).stdout)
        assert {"tenant", "prompt", "version", "backend"} >= {each["kind"] for each in told["burners"]} >= {"backend"}
        assert told["objectives"][0]["goodput"] == {"good": 5, "bad": 30}


async def test_on_a_narrow_terminal_slo_shows_fewer_windows_and_breaks_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    async with simulated(tmp_path) as (running, _, _):
        found = lines(re.sub(r"\x1b\[[0-9;]*m", "", (await tidegate(running, "slo", "m")).stdout))
        assert "burn rate of objective SLI 5m 1h 6h 3d budget" in found
        assert "m o availability - - - - no events yet" in found


async def test_a_model_that_is_not_there_is_said(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (running, _, _):
        unknown = await tidegate(running, "slo", "mm", status=1)
        assert unknown.stderr == "tidegate: the model `mm` does not exist; did you mean `m`? (there are m)\n"


async def test_watching_goes_on_until_ctrl_c_and_ends_well(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (running, _, _):
        command = ("gateway.cli", "slo", "m", "--watch", "--interval", "0.2", "--admin", running.admin)
        async with process(*command) as watching:
            await eventually(lambda: sum("objective o" in line for line in watching.out) > 1)
            watching.process.send_signal(signal.SIGINT)
            assert await watching.ended() == 0
            assert watching.err == []


async def test_a_paused_rollout_is_a_problem_with_a_remedy_and_one_that_goes_on_is_not(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url, start="manual", hold="30s")) as running:
            await tidegate(running, "canary", "start", "m")
            await in_phase(running, Phase.STEP)
            (step,) = [line for line in lines((await tidegate(running, "status")).stdout) if "v1 -> v2 step 1" in line]
            assert step.startswith("m v1 -> v2 step 1 of 3 10 %")
            await tidegate(running, "canary", "pause", "m", "--reason", "lunch")
            wrong = lines((await tidegate(running, "status", status=1)).stdout)
            (paused,) = [line for line in wrong if line.startswith("! the rollout of m (v1 -> v2) is paused at 10 %")]
            assert paused.endswith("lunch")
            assert "tidegate canary " in wrong[wrong.index(paused) + 1]


async def test_a_candidate_that_fails_every_request_is_a_problem_before_it_is_rolled_back(tmp_path: Path) -> None:
    async with backends(good, failing) as (old, new):
        canary: dict[str, Any] = {"start": "manual", "hold": "30s", "steps": [50]}
        async with gateway(tmp_path, routes(old.url, new.url, **canary)) as running:
            await tidegate(running, "canary", "start", "m")
            evidence = (await in_phase(running, Phase.STEP)).evidence
            while evidence.answered < 3:
                await ask(running.port, chat())
                await running.quiet()
            said = "3 of 3 requests of v2 failed; it is rolled back if its first 5 all fail"
            wrong = lines((await tidegate(running, "status", status=1)).stdout)
            assert wrong[wrong.index(f"! the rollout of m: {said}") + 1] == (
                "tidegate canary report m, or tidegate canary rollback m"
            )
            assert said in lines((await tidegate(running, "canary", "status", "m")).stdout)


@pytest.mark.parametrize(
    ("alive", "leader", "words"),
    [
        (1, "gw/a", "1 process alive, this one leads"),
        (3, "gw/b", "3 processes alive, gw/b leads"),
        (3, "", "3 processes alive, none leads"),
        (None, "", "processes are not counted yet"),
    ],
)
def test_a_worker_is_counted_as_a_process_and_not_as_a_gateway(alive: int | None, leader: str, words: str) -> None:
    fleet = {"name": "gw/a", "leader": leader, "alive": alive, "saved_seconds": 0.4}
    told = fleet_words({"where": "redis://r:1/0", "read_seconds": None, "fleet": fleet})
    assert told == f"state in redis://r:1/0: {words}, saved 0.4 s ago, others read not yet"


@pytest.mark.parametrize(
    ("saved", "read", "words"),
    [
        (19.1, 20.4, "not saved now, last saved 19.1 s ago, others last read 20.4 s ago"),
        (None, None, "not saved now, nothing saved yet"),
    ],
)
def test_while_the_state_is_away_nothing_is_said_of_who_is_alive_or_leads(
    saved: float | None, read: float | None, words: str
) -> None:
    members = [{"name": name, "wrote_seconds": 0.4, "leads": name == "gw/a"} for name in ("gw/a", "gw/b")]
    fleet = {"name": "gw/a", "leader": "gw/a", "alive": 2, "saved_seconds": saved, "members": members}
    state = {"where": "redis://r:1/0", "not_saved": "it is away", "read_seconds": read, "fleet": fleet}
    assert fleet_words(state) == f"state in redis://r:1/0: {words}"
    assert members_table({"state": state}).row_count == 0
    assert members_table({"state": state | {"not_saved": ""}}).row_count == 2


@pytest.mark.parametrize(
    ("quotas", "words"),
    [
        (None, ""),
        ((3, 0.4, False), "limits of tenants: shared by 3 machines, others heard 0.4 s ago"),
        (
            (3, 95.0, True),
            "limits of tenants: this machine has heard nothing of others for 95 s, and goes on alone",
        ),
        (
            (1, None, True),
            "limits of tenants: this machine has heard nothing of others since its start, and goes on alone",
        ),
    ],
)
def test_a_line_tells_how_limits_are_shared(quotas: tuple[int, float | None, bool] | None, words: str) -> None:
    names = ("machines", "heard_seconds", "alone")
    state = {"quotas": None if quotas is None else dict(zip(names, quotas, strict=True))}
    assert quota_words(state) == words


def test_a_class_that_waits_and_is_held_back_is_named_once() -> None:
    waiting = {"interactive": 0, "standard": 2, "batch": 1200}
    said = waiting_words({"waiting": waiting, "held_back": ["batch"]})
    assert said == "2 standard, 1,200 batch (held back for a higher class)"
    assert waiting_words({"waiting": dict.fromkeys(waiting, 0), "held_back": []}) == ""


def test_the_limits_that_are_used_most_are_shown_with_what_was_used_elsewhere() -> None:
    told = {"limit": "requests_per_minute", "allowed": 600, "used_here": 31, "used_elsewhere": 1571, "part": None}
    limits = [told | {"tenant": f"t{number}", "left": 40 * number - 2, "heard_seconds": 0.4} for number in range(12)]
    limits[1] |= {"part": 0.333, "heard_seconds": None}
    screen = StringIO()
    Console(width=160, file=screen).print(limits_table({"state": {"quotas": {"limits": limits[::-1]}}}))
    shown = [re.sub(r"[ \u2502]+", " ", each).strip() for each in screen.getvalue().splitlines()]
    rows = [each for each in shown if each.startswith("t") and "requests per minute" in each]
    assert len(rows) == 10
    assert rows[0] == "t0 requests per minute 600 -2 31 1,571 0.4 s ago all"
    assert rows[1] == "t1 requests per minute 600 38 31 1,571 not yet 33%"
    assert limits_table({"state": {"quotas": None}}).row_count == 0
