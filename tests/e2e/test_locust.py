"""Load as people put it on: locust as a process, against a gateway that is one too."""

import asyncio
import csv
import json
import shutil
import sys
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtest.report.recording import Recording
from loadtest.traces.formats import read_trace
from tests.background import in_background
from tests.e2e.fakes import DONE, LAST_CHUNK, ROLE, STREAM_HEAD, Call, backends, chunked, event, good_stream, whole
from tests.e2e.processes import Process, engine, running, serving
from tests.e2e.test_timings import build, free_port
from tests.waiting import DEADLINE, patient_client

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
TRACES = ROOT / "loadtest" / "traces"
LOCUST = ("locust", "-f", str(ROOT / "loadtest" / "users" / "locustfile.py"), "--skip-log-setup")
ALONE = ("--headless", "--only-summary", "--model", "m")
SECONDS = 3 * DEADLINE


@asynccontextmanager
async def gateway_and_engine(folder: Path, *options: str) -> AsyncIterator[Process]:
    """Run an engine and a gateway that has found it ready."""
    async with engine(*options) as sim, serving(folder, [sim.urls[0]], "--no-access-log") as served:
        async with patient_client() as web, asyncio.timeout(DEADLINE):
            while (await web.get(f"{served.urls[0]}/ready")).status_code != 200:
                await asyncio.sleep(0.02)
        yield served


async def load(folder: Path, url: str, *options: str) -> Recording:
    """Put load on and return what was recorded; locust's tables are in the folder beside it."""
    records = ("--host", url, "--record", str(folder / "recording"), "--csv", str(folder / "locust"))
    async with running(*LOCUST, *ALONE, *records, "--exit-code-on-error", "0", *options) as locust:
        async with asyncio.timeout(SECONDS):
            assert await locust.ended() == 0, locust.err
    return Recording.read(folder / "recording")


def rows(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Return locust's rows by type and name."""
    with (folder / "locust_stats.csv").open(newline="") as file:
        return {(row["Type"], row["Name"]): row for row in csv.DictReader(file)}


def failures(folder: Path) -> dict[str, int]:
    """Return how often locust counted which failure."""
    with (folder / "locust_failures.csv").open(newline="") as file:
        return {row["Error"]: int(row["Occurrences"]) for row in csv.DictReader(file)}


def bucket(cumulative: dict[float, float], q: float) -> tuple[float, float]:
    """Return the bounds of the bucket that holds the q-quantile."""
    lower = 0.0
    for bound, count in sorted(cumulative.items()):
        if count >= q * max(cumulative.values()):
            return lower, bound
        lower = bound
    raise AssertionError("nothing was counted")


def histogram(metrics: str, name: str) -> dict[float, float]:
    """Return the cumulative counts of one of the gateway's histograms by upper bound."""
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == f"{name}_bucket"
    }


@dataclass(frozen=True)
class Measured:
    """A quantile as a client measured it, and the gateway's histogram of the same."""

    what: str
    seconds: float
    q: float
    counts: dict[float, float]

    def apart(self, slack: float) -> int:
        """Return how many buckets lie between both, where the client's value may be that many seconds off."""
        bounds = sorted(self.counts)
        ours = bounds.index(bucket(self.counts, self.q)[1])
        least, most = (bisect_left(bounds, max(self.seconds + off, 0.0)) for off in (-slack, slack))
        return max(least - ours, ours - most, 0)


def far(found: list[Measured], slack: float = 0.0) -> list[Measured]:
    """Return what differs by more than a bucket."""
    return [each for each in found if each.apart(slack) > 1]


async def latest(late: list[float]) -> None:
    """Note by how much this process is woken up too late, until cancelled."""
    while True:
        due = monotonic() + 0.01
        await asyncio.sleep(0.01)
        late.append(monotonic() - due)


async def in_c(port: str, program: str) -> dict[str, dict[str, float]]:
    """Put load on with the generator in C, and return what it measured."""
    options = f"-p {port} -m m -c 4 -w 0.2 -d 4 -D 2 -s -u -n 24 -b 400".split()
    process = await asyncio.create_subprocess_exec(
        program, *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    told: dict[str, dict[str, float]] = json.loads(out)
    return told


async def measured(folder: Path) -> tuple[list[Measured], float]:
    """Return what locust and the generator in C measured, and by how much this process was late meanwhile."""
    asked = ("--prompt-tokens", "100", "--output-tokens", "24", "--think-time", "0", "ChatUser")
    late = [0.0]
    async with gateway_and_engine(folder) as served:
        others: list[Awaitable[dict[str, dict[str, float]]]] = []
        if shutil.which("cc"):
            others.append(in_c(served.urls[0].rsplit(":", 1)[1], await build("sseload.c", folder)))
        async with in_background(latest(late)):
            recording, in_parallel = await asyncio.gather(
                load(folder, served.urls[0], "--users", "4", "--run-time", "4s", "--stop-timeout", "3", *asked),
                asyncio.gather(*others),
            )
        async with patient_client() as web:
            metrics = (await web.get(f"{served.urls[1]}/metrics")).text
    assert {request.outcome for request in recording.requests} == {"ok"}
    names = {"TTFT": "time_to_first_token", "ITL": "inter_token_latency", "TPOT": "time_per_output_token"}
    edge = {row: histogram(metrics, f"tidegate_{name}_seconds") for row, name in names.items()}
    found = []
    for row, counts in edge.items():
        told = rows(folder)[row, "chat"]
        assert int(told["Request Count"]) >= 20
        for column, q in (("50%", 0.5), ("90%", 0.9)):
            found.append(Measured(f"{row} of locust", float(told[column]) / 1000, q, counts))
    for theirs in in_parallel:
        assert theirs["errors"] == 0
        for row, key in (("TTFT", "ttft_us"), ("ITL", "itl_us")):
            for column, q in (("p50", 0.5), ("p90", 0.9)):
                found.append(Measured(f"{row} in C", theirs[key][column] / 1e6, q, edge[row]))
    return found, max(late)


async def test_locust_the_gateway_and_a_generator_in_c_measure_the_same(tmp_path: Path) -> None:
    """A starved machine delays one of the sides and not the other: it gets four tries, and in the last its delays."""
    for attempt in range(4):
        (folder := tmp_path / str(attempt)).mkdir()
        found, late = await measured(folder)
        if not far(found):
            return
    assert not far(found, late)


async def test_the_recording_and_locusts_rows_are_of_the_same_requests(tmp_path: Path) -> None:
    async with gateway_and_engine(tmp_path, "--time-scale", "0.2") as served:
        keys = ("--service-class", "batch", "--api-key", "acme=s3cret", "--admin", served.urls[1])
        short = ("--output-tokens", "12", "--think-time", "0.05", "--prefix-tokens", "300", "--turns", "3")
        recording = await load(tmp_path, served.urls[0], "--users", "10", "--run-time", "3s", *keys, *short)
    told = rows(tmp_path)
    assert {name for kind, name in told if kind == "POST"} == {"chat", "completions", "embeddings", "session"}
    for name in ("chat", "completions", "embeddings", "session"):
        mine = [request for request in recording.requests if request.name == name]
        assert len(mine) == int(told["POST", name]["Request Count"]) > 0
        assert {request.output_tokens for request in mine} == {0 if name == "embeddings" else 12}
    assert sum(recording.gaps.values()) == sum(
        int(row["Request Count"]) for (kind, _), row in told.items() if kind == "ITL"
    )
    assert {(request.tenant, request.service_class) for request in recording.requests} == {("acme", "batch")}
    assert all(request.backend and request.version for request in recording.requests)
    prompts = [request.prompt_tokens for request in recording.requests if request.name == "session"]
    assert min(prompts) > 300
    assert {sample.name for sample in recording.series} >= {"in_flight", "share"}
    assert "s3cret" not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.suffix in (".json", ".csv"))


@pytest.mark.parametrize("name", ["azure-sample.csv", "mooncake-sample.jsonl"])
async def test_a_trace_is_replayed_when_it_came_whatever_becomes_of_it(tmp_path: Path, name: str) -> None:
    """Nothing is answered before everything has been asked."""
    trace = read_trace(TRACES / name, limit=30)
    speed = trace[-1].at / 2
    waiting = asyncio.Barrier(30)

    async def late(call: Call) -> None:
        await waiting.wait()
        await good_stream(call)

    async with backends(late) as [fake]:
        replay = ("--shape", "replay", "--trace", str(TRACES / name), "--trace-rows", "30", "--trace-speed", str(speed))
        recording = await load(tmp_path, fake.url, *replay)
        bodies = sorted((call.json for call in fake.calls), key=lambda body: body["max_tokens"])
    assert [request.at for request in recording.requests] == [
        pytest.approx(1 + row.at / speed, abs=1e-4) for row in trace
    ]
    assert [body["max_tokens"] for body in bodies] == sorted(row.output_tokens for row in trace)
    lengths = sorted(len(body["messages"][0]["content"].split()) for body in bodies)
    assert lengths == sorted(row.prompt_tokens for row in trace)
    assert int(rows(tmp_path)["LATE", "replay"]["Request Count"]) == 30
    assert "sent later than the trace has them" in recording.about.notes[0]


async def test_two_workers_share_a_trace_and_their_rows_are_merged(tmp_path: Path) -> None:
    trace = read_trace(TRACES / "azure-sample.csv", limit=40)
    speed = trace[-1].at / 3
    port = str(free_port())
    async with gateway_and_engine(tmp_path, "--time-scale", "0.1") as served:
        worker = (*LOCUST, "--worker", "--master-port", port)
        async with running(*worker) as first, running(*worker) as second:
            recording = await load(
                tmp_path,
                served.urls[0],
                *("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", "2"),
                *("--shape", "replay", "--trace-rows", "40", "--trace-speed", str(speed)),
            )
            assert (await first.ended(), await second.ended()) == (0, 0)
    told = rows(tmp_path)
    assert [request.at for request in recording.requests] == [
        pytest.approx(1 + row.at / speed, abs=1e-4) for row in trace
    ]
    assert [request.output_tokens for request in recording.requests] == [row.output_tokens for row in trace]
    assert {request.outcome for request in recording.requests} == {"ok"}
    assert {int(told[kind, "replay"]["Request Count"]) for kind in ("POST", "TTFT", "LATE")} == {40}
    assert int(told["ITL", "replay"]["Request Count"]) == sum(recording.gaps.values()) > 1000


class Wrong:
    """A backend whose answers go wrong, each in another way, over and over."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, call: Call) -> None:
        self.calls += 1
        error = json.dumps({"error": {"message": "no", "code": "overloaded"}}).encode()
        begun = STREAM_HEAD + chunked(ROLE, event("a"), event("b"))
        match self.calls % 6:
            case 0:
                await call.send(whole(b"429 Too Many Requests", error))
            case 1:
                await call.send(whole(b"503 Service Unavailable", error, b"retry-after: 1\r\n"))
            case 2:
                await call.send(whole(b"500 Internal Server Error", b"oops"))
            case 3:
                await call.send(begun)
                call.close()
            case 4:
                await call.send(begun, chunked(b"data: " + error + b"\n\n", DONE), LAST_CHUNK)
            case 5:
                await call.send(begun, LAST_CHUNK)


async def test_what_was_refused_cut_or_failed_appears_as_such(tmp_path: Path) -> None:
    async with backends(Wrong()) as [fake]:
        chat = ("--users", "1", "--think-time", "0.05", "--run-time", "2s", "--stop-timeout", "2", "ChatUser")
        recording = await load(tmp_path, fake.url, *chat)
    found = failures(tmp_path)
    assert len(recording.requests) == sum(found.values()) == int(rows(tmp_path)["POST", "chat"]["Failure Count"]) >= 6
    assert {(kind, name) for kind, name in rows(tmp_path) if kind} == {("POST", "chat")}
    assert {(request.outcome, request.status) for request in recording.requests} == {
        ("refused", 429),
        ("refused", 503),
        ("failed", 500),
        ("cut", 200),
    }
    words = " | ".join(found)
    for expected in (
        "refused: 429 overloaded",
        "refused: 503 overloaded",
        "failed: 500 without a code",
        "cut: HTTP",
        "cut: error event overloaded",
        "cut: the stream ended without [DONE] and without a finish reason",
    ):
        assert expected in words


async def test_a_gateway_that_is_not_there_is_a_failure_and_not_a_crash(tmp_path: Path) -> None:
    alone = ("--users", "1", "--think-time", "0.2", "--run-time", "1s", "ChatUser")
    recording = await load(tmp_path, f"http://127.0.0.1:{free_port()}", *alone)
    assert {(request.outcome, request.status) for request in recording.requests} == {("failed", 0)}
    assert all("no answer: ConnectionRefusedError" in error for error in failures(tmp_path))


async def test_a_trace_that_cannot_be_read_ends_locust_in_words(tmp_path: Path) -> None:
    (tmp_path / "wrong.csv").write_text("a,b\n")
    options = ("--host", "http://127.0.0.1:1", "--shape", "replay", "--trace", str(tmp_path / "wrong.csv"))
    async with running(*LOCUST, *ALONE, *options) as locust:
        assert await locust.ended() == 1
    assert "wrong.csv:1: the header is 'a,b'; right are the columns" in "\n".join(locust.err)


async def test_the_target_of_make_ends_what_it_began(tmp_path: Path) -> None:
    """With a gateway that is refused, so that its report, its status and its last words are shown too."""
    async with backends(Wrong()) as [fake]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "loadtest.users", "--url", fake.url, "--folder", str(tmp_path), "--seconds", "2"),
            *("--users", "2", "--shape", "steady", "--think-time", "0.1", "ChatUser"),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
    assert process.returncode == 1
    assert b"100.00 % of all requests were not answered completely; --most-failures allows 1 %" in err
    assert b"report.html" in out
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "report.md").is_file()
