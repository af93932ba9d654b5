"""What users experience becomes burn rates of the right SLI, for the right subjects, at the gateway's own edge."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.control.outlier_detection import OutlierDetector
from gateway.policy.routing.ejection import State
from gateway.policy.routing.readiness import probe_passed
from gateway.policy.slo.series import Kind
from tests.cli.test_asking import tidegate
from tests.e2e.fakes import DONE, LAST_CHUNK, STREAM_HEAD, USAGE, Call, Script, backends, chunked, event, good, whole
from tests.e2e.harness import Running, ask, chat, gateway, post
from tests.e2e.raw_client import connect
from tests.waiting import HandClock, eventually, patient_client

pytestmark = pytest.mark.anyio
Counts = dict[str, tuple[int, int]]
"""Good and bad events by SLI."""
OBJECTIVE = {
    "availability": {"target": 99.9},
    "ttft": {"target": 99, "under": "150ms"},
    "tpot": {"target": 99, "under": "60ms"},
    "itl": {"target": 99, "under": "60ms"},
    "e2e": {"target": 95, "under": "5s"},
}


def routes(*urls: str) -> str:
    pool = {"backends": list(urls)}
    model = {"objective": "o", "versions": {"v1": {"pools": ["gpu"]}}, "timeouts": {"connect": "20s"}}
    return json.dumps({"pools": {"gpu": pool}, "objectives": {"o": OBJECTIVE}, "models": {"m": model}})


def counts(running: Running, kind: Kind, name: str) -> dict[str, tuple[int, int]]:
    """Good and bad of the last five minutes by SLI, as far as there are any."""
    found = {each.sli: each.windows.count(300.0) for each in running.app.data.ledger.get(kind, name)}
    return {sli: (seen.good, seen.bad) for sli, seen in found.items() if seen.total}


async def counted(running: Running, expected: dict[str, tuple[int, int]], *subjects: tuple[Kind, str]) -> None:
    """Wait until these subjects have counted exactly this."""
    with contextlib.suppress(TimeoutError):
        await eventually(lambda: all(counts(running, *subject) == expected for subject in subjects))
    assert [counts(running, *subject) for subject in subjects] == [expected] * len(subjects)


def subjects(running: Running, index: int = 0) -> tuple[tuple[Kind, str], ...]:
    backend = running.backend(index).id
    return (Kind.MODEL, "m"), (Kind.VERSION, "m/v1"), (Kind.POOL, "gpu"), (Kind.BACKEND, backend)


class Stepwise:
    """An engine that sends a token each time it is told to, and ends its answer behind the last of so many."""

    def __init__(self, tokens: int) -> None:
        self.next = asyncio.Semaphore(0)
        self._tokens = tokens

    async def __call__(self, call: Call) -> None:
        await call.send(STREAM_HEAD)
        for _ in range(self._tokens):
            await self.next.acquire()
            await call.send(chunked(event("x")))
        await call.send(chunked(event(finish="stop"), USAGE, DONE), LAST_CHUNK)


@pytest.mark.parametrize(
    ("pauses", "bad"),
    [((0, 0, 0), set()), ((0.4, 0, 0), {"ttft"}), ((0, 0.25, 0.25), {"tpot", "itl"})],
    ids=["well", "prefill fault", "decode stall"],
)
async def test_each_fault_burns_its_own_budget_alone(pauses: tuple[float, ...], bad: set[str], tmp_path: Path) -> None:
    clock, stepwise = HandClock(), Stepwise(len(pauses))
    async with backends(stepwise) as (fake,), gateway(tmp_path, routes(fake.url), now=clock) as running:
        client = await connect(running.port)
        await client.send(post(chat()))
        await eventually(lambda: bool(fake.calls))
        for pause in pauses:
            clock.advance(pause)
            stepwise.next.release()
            await client.reader.readuntil(event("x"))
        await client.reader.readuntil(LAST_CHUNK)
        await running.quiet()
        expected = {sli: (0, 1) if sli in bad else (1, 0) for sli in OBJECTIVE}
        expected["itl"] = (0, 2) if "itl" in bad else (2, 0)
        await counted(running, expected, *subjects(running))


async def test_a_failure_burns_availability_alone_and_a_retry_spares_the_user(tmp_path: Path) -> None:
    async def closes(call: Call) -> None:
        call.close()

    async with backends(closes, good) as (bad, well), gateway(tmp_path, routes(bad.url, well.url)) as running:
        while not bad.calls:
            assert (await ask(running.port, chat())).status == 200
        await running.quiet()
        await counted(running, {"availability": (0, 1)}, (Kind.BACKEND, running.backend(0).id))
        served = len(well.calls)
        assert served == len(running.records.exchanges)
        good_ones = ((Kind.MODEL, "m"), (Kind.VERSION, "m/v1"), (Kind.BACKEND, running.backend(1).id))
        await eventually(lambda: all(counts(running, *each).get("availability") == (served, 0) for each in good_ones))
        await eventually(lambda: counts(running, Kind.POOL, "gpu").get("availability") == (served, 1))


async def test_a_refused_connection_burns_availability_alone(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        await fake.stop()
        running.backend().learn(probe_passed(running.backend().readiness))  # no probe has seen it yet
        assert (await ask(running.port, chat())).status == 503
        await running.quiet()
        await counted(running, {"availability": (0, 1)}, *subjects(running))


async def left(
    folder: Path, script: Script, text: str, *, body: dict[str, Any], patience: float, expected: Counts
) -> None:
    """Let a client leave after so many seconds, and wait until that has counted as expected."""
    clock = HandClock()
    async with backends(script) as (fake,):
        async with gateway(folder, text.replace("http://backend", fake.url), now=clock) as running:
            client = await connect(running.port)
            await client.send(post(body))
            await eventually(lambda: bool(fake.calls))
            clock.advance(patience)
            client.reset()
            await running.settled()
            running.app.control.outlier_detector.detect()
            await counted(running, expected, *subjects(running))


@pytest.mark.parametrize(
    ("under", "patience", "expected"), [("150ms", 0.4, {"ttft": (0, 1)}), ("60s", 0.02, {})], ids=["late", "early"]
)
async def test_a_client_that_leaves_counts_once_it_has_waited_too_long(
    under: str, patience: float, expected: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    async def never(call: Call) -> None:
        await call.send(STREAM_HEAD)
        await call.until_gone()

    text = routes("http://backend").replace("150ms", under).replace("5s", "2m")
    await left(tmp_path, never, text, body=chat(), patience=patience, expected=expected)


@pytest.mark.parametrize(
    ("under", "patience", "expected"), [("200ms", 0.4, {"e2e": (0, 1)}), ("60s", 0.02, {})], ids=["late", "early"]
)
async def test_a_client_that_leaves_a_plain_answer_counts_once_it_has_waited_too_long(
    under: str, patience: float, expected: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    async def never(call: Call) -> None:
        await call.until_gone()

    text = routes("http://backend").replace("5s", under)
    await left(tmp_path, never, text, body=chat(stream=False), patience=patience, expected=expected)


async def test_what_is_the_clients_doing_counts_nowhere(tmp_path: Path) -> None:
    async def refuses(call: Call) -> None:
        await call.send(whole(b"400 Bad Request", b"{}"))

    async with backends(refuses) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await ask(running.port, chat())).status == 400
        assert (await ask(running.port, b"{")).status == 400
        await running.quiet()
        cells = [
            *running.app.data.ledger.requests["m", "v1", "o"],
            *running.app.data.ledger.attempts[running.backend().id, "o"],
        ]
        assert {(cell.good, cell.bad) for cell in cells} == {(0, 0)}
        await counted(running, {}, *subjects(running))


async def test_a_backend_that_fails_fast_attracts_nobody_for_looking_idle(tmp_path: Path) -> None:
    async def fails(call: Call) -> None:
        await call.send(whole(b"500 Internal Server Error", b"{}"))

    async def well(call: Call) -> None:
        await asyncio.sleep(0.03)
        await good(call)

    async with backends(fails, well) as (bad, other), gateway(tmp_path, routes(bad.url, other.url)) as running:
        for _round in range(10):
            answers = await asyncio.gather(*(ask(running.port, chat()) for _ in range(10)))
            assert {answer.status for answer in answers} == {200}
            running.app.control.outlier_detector.detect()
        await running.quiet()
        assert len(bad.calls) <= 14
        standing = running.backend(0).health.outlier.ejection
        assert standing.state in {State.EJECTED, State.IN_SERVICE}
        assert running.backend(0).health.outlier.weight < 0.2 or standing.out


async def test_retries_spend_a_budget(tmp_path: Path) -> None:
    async def fails(call: Call) -> None:
        await call.send(whole(b"500 Internal Server Error", b"{}"))

    async with (
        backends(fails, fails) as (one, other),
        gateway(tmp_path, routes(one.url, other.url), now=HandClock()) as running,
    ):
        for _ in range(8):
            answers = await asyncio.gather(*(ask(running.port, chat(stream=False)) for _ in range(10)))
            assert {answer.status for answer in answers} == {500}
        await running.quiet()
        assert len(running.records.retries) == 30
        assert len(one.calls) + len(other.calls) == 80 + 30
        async with patient_client() as web:
            assert 'tidegate_retries_refused_total{model="m"} 50.0' in (await web.get(f"{running.admin}/metrics")).text


async def test_a_backend_that_asks_for_patience_gets_it(tmp_path: Path) -> None:
    async def busy(call: Call) -> None:
        await call.send(whole(b"429 Too Many Requests", b"{}", b"retry-after: 20\r\n"))

    async with (
        backends(busy, good) as (hot, cool),
        gateway(tmp_path, routes(hot.url, cool.url), now=HandClock()) as running,
    ):
        for _ in range(20):
            assert (await ask(running.port, chat())).status == 200
        await running.quiet()
        assert len(hot.calls) <= 1
        assert running.backend(0).health.outlier.ejection.state is State.IN_SERVICE


async def test_the_slo_of_a_model_is_told(tmp_path: Path) -> None:
    async def fails(call: Call) -> None:
        await call.send(whole(b"500 Internal Server Error", b"{}"))

    async with backends(fails) as (fake,), gateway(tmp_path, routes(fake.url)) as running, patient_client() as web:
        for _ in range(4):
            await ask(running.port, chat())
        await running.quiet()
        await counted(running, {"availability": (0, 4)}, *subjects(running))
        await eventually(lambda: bool(list(running.app.control.alerter)))
        slo = (await web.get(f"{running.admin}/admin/models/m/slo")).json()
        assert (slo["model"], [(each["name"], each["window"]) for each in slo["objectives"]]) == ("m", [("o", "28d")])
        assert [each["subject"] for each in slo["subjects"]] == ["model", "version", "pool", "backend"]
        for subject in slo["subjects"]:
            availability = subject["slis"][0]
            minute = next(each for each in availability["windows"] if each["window"] == "1m")
            assert (minute["bad"], minute["state"], minute["half_covered"]) == (4, "insufficient", True)
            assert minute["burn"] == pytest.approx(1000)
            assert availability["error_budget_remaining"] is None
            assert len(availability["alerts"]) == (4 if subject["subject"] == "model" else 0)
        unknown = await web.get(f"{running.admin}/admin/models/meta/x/slo")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_decision_is_explained_by_the_admin_the_command_and_the_log(tmp_path: Path) -> None:
    async with backends(good, good) as (one, other), gateway(tmp_path, routes(one.url, other.url)) as running:
        await ask(running.port, chat())
        last = await running.settled()
        assert str(last.routing).startswith("lowest score: gpu/127.0.0.1:")
        arguments = ("explain", "--model", "m", "--prompt-tokens", "300")
        words = (await tidegate(running, *arguments)).stdout
        assert sum(f"gpu/127.0.0.1:{fake.port}" in words.replace("\n", "") for fake in (one, other)) == 2
        assert "100 % of requests, 300 prompt tokens" in words
        assert "(extrapolated)" in words.replace("\n", " "), "the only prompt seen is much shorter"
        assert "500 prompt tokens" in (await tidegate(running, "explain", "--model", "m")).stdout
        decision = json.loads((await tidegate(running, *arguments, "--json")).stdout)
        burns = [each["routing_burn"] for each in decision["versions"][0]["candidates"]]
        assert burns == pytest.approx([1.0, 1.0], abs=0.01)
        assert decision["versions"][0]["winner"] in {running.backend(0).id, running.backend(1).id}
        unknown = await tidegate(running, "explain", "--model", "mm", *arguments[3:], status=1)
        assert "did you mean `m`?" in unknown.stderr
    gone = await tidegate(running, *arguments, status=1)
    assert "give its admin listener with --admin" in gone.stderr


async def test_counts_outlive_a_reload(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running, patient_client() as web:
        await ask(running.port, chat())
        await running.quiet()
        await eventually(lambda: "ttft" in counts(running, Kind.MODEL, "m"))
        before = counts(running, Kind.MODEL, "m")
        assert (await web.post(f"{running.admin}/admin/reload")).status_code == 200
        assert counts(running, Kind.MODEL, "m") == before
        changed = json.loads(routes(fake.url))
        changed["objectives"]["o"]["ttft"]["under"] = "190ms"
        (tmp_path / "routes.yaml").write_text(json.dumps(changed))
        assert (await web.post(f"{running.admin}/admin/reload")).status_code == 200
        await ask(running.port, chat())
        await running.quiet()
        await eventually(lambda: counts(running, Kind.MODEL, "m")["ttft"][0] == before["ttft"][0] + 1)
        assert 'le="0.19"' in (await web.get(f"{running.admin}/metrics")).text


async def test_a_total_outage_of_a_quiet_model_pages_and_is_told_everywhere(tmp_path: Path) -> None:
    """74 requests of which each was a 500 alerted nobody: every window held too few events."""

    async def fails(call: Call) -> None:
        await call.send(whole(b"500 Internal Server Error", b"{}"))

    async with (
        backends(fails) as (fake,),
        gateway(tmp_path, routes(fake.url), now=HandClock()) as running,
        patient_client() as web,
    ):
        alerter = running.app.control.alerter
        clock = Ahead(running.app.control.outlier_detector)
        alerter._clock = clock
        for _ in range(74):
            assert (await ask(running.port, chat())).status == 500
            await running.quiet()
            clock.jump(45.0)
            running.app.control.outlier_detector.detect()
            alerter.evaluate()
        status = (await web.get(f"{running.admin}/admin/status")).json()
        (alert,) = status["alerts"]
        assert (alert["severity"], alert["model"], alert["version"], alert["sli"]) == ("page", "m", "", "availability")
        assert "at this rate a whole 28-day budget is gone in" in alert["summary"]
        assert alert["description"].startswith("74 of 74 requests failed in the last hour")
        (availability,) = [each for each in status["objectives"] if each["sli"] == "availability"]
        assert availability["alert"] == "page"
        assert availability["budget"]["left"] is None
        assert availability["budget"]["words"].startswith("74 of 74 missed so far")
        slo = (await web.get(f"{running.admin}/admin/models/m/slo")).json()
        assert [each["severity"] for each in slo["alerts"]] == ["page"]
        assert slo["subjects"][0]["slis"][0]["budget"] == availability["budget"]


async def test_a_process_of_seconds_sends_no_ticket_and_shows_no_budget(tmp_path: Path) -> None:
    """Twenty seconds after its start it sent a ticket of three days, and -799 was left of a budget."""

    async def fails(call: Call) -> None:
        await call.send(whole(b"500 Internal Server Error", b"{}"))

    async with (
        backends(fails) as (fake,),
        gateway(tmp_path, routes(fake.url), now=HandClock()) as running,
        patient_client() as web,
    ):
        clock = Ahead(running.app.control.outlier_detector)
        running.app.control.alerter._clock = clock
        for _ in range(20):
            await ask(running.port, chat())
            await running.quiet()
            clock.jump(1.0)
            running.app.control.outlier_detector.detect()
            running.app.control.alerter.evaluate()
        status = (await web.get(f"{running.admin}/admin/status")).json()
        assert status["alerts"] == []
        budgets = {each["sli"]: each["budget"] for each in status["objectives"]}
        assert (budgets["availability"]["left"], budgets["availability"]["bad"]) == (None, 20)
        assert budgets["ttft"]["words"] == "no events yet: 100 % of the 28-day budget is left"
        metrics = (await web.get(f"{running.admin}/metrics")).text
        assert 'tidegate_error_budget_remaining_ratio{model="m",objective="o",prompt_tokens="",sli="ttft"' in metrics
        assert (
            'tidegate_error_budget_remaining_ratio{model="m",objective="o",prompt_tokens="",sli="avail' not in metrics
        )


class Ahead:
    """The clock that a gateway counts by, which stands still unless it is set forward."""

    def __init__(self, detector: OutlierDetector) -> None:
        self._now = detector._epoch()
        detector._epoch = self

    def __call__(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds
