"""Signals, output that is not drained, and receivers that hang: nothing of it kills or holds the process."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from loadtest.bench.listening import listening
from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat
from tests.e2e.processes import Process, following, serving
from tests.waiting import DEADLINE, eventually, patient_client

pytestmark = pytest.mark.anyio
HARMLESS = (signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGALRM)


def port(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


@asynccontextmanager
async def hanging() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Take connections and requests, and never answer."""
    asked: list[bytes] = []

    async def take(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            asked.append(data)

    async with listening(take) as url:
        yield url, asked


async def test_signals_that_mean_nothing_do_not_kill_while_serving_or_draining(tmp_path: Path) -> None:
    async with backends(good) as (fake,), serving(tmp_path, [fake.url], "--drain-delay", "2") as served:
        for number in HARMLESS:
            served.process.send_signal(number)
            assert (await ask(port(served.urls[0]), chat(stream=False))).status == 200
        served.process.send_signal(signal.SIGTERM)
        for number in HARMLESS:
            served.process.send_signal(number)
            assert (await ask(port(served.urls[0]), chat(stream=False))).status == 200
        assert await served.ended() == 0


START = """
import os, signal, sys
sys.argv[:] = ["tidegate", *sys.argv[2:]]
from gateway import cli, signals

class Signalled:
    # Sends the signal in the middle of loading the command.
    def find_spec(self, name, path=None, target=None):
        if name == f"gateway.cli.{sys.argv[1]}":
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

sys.meta_path.insert(0, Signalled())
cli.main()
"""


@asynccontextmanager
async def signalled(number: signal.Signals, *arguments: str) -> AsyncIterator[Process]:
    """Run a command that gets a signal while it is being loaded."""
    pipe = asyncio.subprocess.PIPE
    environ = {**os.environ, "SIGNAL": str(int(number)), "PYTHONPATH": "."}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", START, "tidegate", *arguments, stdout=pipe, stderr=pipe, env=environ
    )
    async with following(process) as child:
        yield child


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    (tmp_path / "routes.yaml").write_text('{"models": {"m": {"backends": ["http://127.0.0.1:1"]}}}')
    ports = ("--port", "0", "--admin-port", "0", "--state", "memory://")
    return {
        "serve": ("serve", str(tmp_path / "routes.yaml"), *ports),
        "sim": ("sim", "--port", "0"),
        "demo": ("demo", "--seconds", "600"),
    }


@pytest.mark.parametrize("command", ["serve", "sim", "demo"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_while_it_starts_ends_it_cleanly(
    commands: dict[str, tuple[str, ...]], command: str, number: signal.Signals
) -> None:
    async with signalled(number, *commands[command]) as child:
        assert await child.ended() == 0
        assert not child.err


@pytest.mark.parametrize("number", HARMLESS)
async def test_no_other_signal_kills_a_gateway_that_starts(
    commands: dict[str, tuple[str, ...]], number: signal.Signals
) -> None:
    async with signalled(number, *commands["serve"]) as child:
        await child.said("tidegate serves")
        if number is signal.SIGHUP:
            await child.said("routes loaded")
        child.process.send_signal(signal.SIGTERM)
        assert await child.ended() == 0


@pytest.mark.parametrize("command", ["sim", "demo"])
async def test_a_terminal_that_closes_ends_a_simulation_cleanly(
    commands: dict[str, tuple[str, ...]], command: str
) -> None:
    async with signalled(signal.SIGHUP, *commands[command]) as child:
        assert await child.ended() == 0
    async with signalled(signal.SIGUSR1, *commands["sim"]) as child:
        await child.said("listening")
        for number in (signal.SIGUSR2, signal.SIGPIPE, signal.SIGHUP):
            child.process.send_signal(number)
        assert await child.ended() == 0


async def test_under_nohup_a_terminal_that_closes_ends_nothing() -> None:
    nohup = ("trap '' HUP; exec \"$@\"", "sh", sys.executable, "-m", "gateway.cli", "sim", "--port", "0")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("sh", "-c", *nohup, stdout=pipe, stderr=pipe)
    async with following(process) as child:
        await child.said("listening")
        child.process.send_signal(signal.SIGHUP)
        child.process.send_signal(signal.SIGUSR1)
        async with patient_client() as web:
            url = (await child.said("listening")).split("listening on ")[1].split()[0]
            assert (await web.get(f"{url}/health")).status_code == 200
        child.process.send_signal(signal.SIGTERM)
        assert await child.ended() == 0


@pytest.mark.parametrize("times", [1, 2])
async def test_a_collector_that_hangs_does_not_hold_the_end(tmp_path: Path, times: int) -> None:
    async with backends(good) as (fake,), hanging() as (url, asked):
        arguments = ("--otlp-endpoint", url, "--trace-ratio", "1", "--alert-webhook", url)
        clock = asyncio.get_running_loop().time
        began = clock()
        async with serving(tmp_path, [fake.url], *arguments) as served:
            to_start = clock() - began  # a busy machine takes long for both
            assert (await ask(port(served.urls[0]), chat(stream=False))).status == 200
            await eventually(lambda: bool(asked))
            began = clock()
            for _ in range(times):
                served.process.send_signal(signal.SIGTERM)
            assert await served.ended() == 0
            assert clock() - began < 60 + 5 * to_start, "each close has its bound"


@pytest.mark.parametrize("full", ["full at the start", "filled while serving"])
async def test_output_that_is_not_drained_stops_nothing(tmp_path: Path, full: str) -> None:
    async with backends(good) as (fake,):
        routes = tmp_path / "routes.yaml"
        routes.write_text(json.dumps({"models": {"m": {"backends": [fake.url]}}}))
        ports = [_free(), _free()]
        reading, writing = os.pipe()
        if full == "full at the start":
            os.set_blocking(writing, False)
            try:
                while True:
                    os.write(writing, b"x" * 4096)
            except BlockingIOError:
                os.set_blocking(writing, True)
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "gateway.cli",
                "serve",
                str(routes),
                "--state",
                "memory://",
                "--log-level",
                "debug",
            ),
            *("--port", str(ports[0]), "--admin-port", str(ports[1])),
            stdout=writing,
            stderr=writing,
        )
        os.close(writing)
        try:
            async with patient_client() as web, asyncio.timeout(DEADLINE):
                while True:
                    try:
                        if (await web.get(f"http://127.0.0.1:{ports[0]}/ready")).status_code == 200:
                            break
                    except httpx.HTTPError:
                        pass
                    await asyncio.sleep(0.02)
            for _ in range(300):
                process.send_signal(signal.SIGUSR1)  # a line on standard error, beside one on standard output
                assert (await ask(ports[0], chat(stream=False))).status == 200
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE):
                assert await process.wait() == 0
        finally:
            os.close(reading)
            if process.returncode is None:
                process.kill()
                await process.wait()


def _free() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
        return number
