"""A place where the commands of one page are run: a gateway with engines, files of the usual names, a shell."""

import asyncio
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.control.rollouts import RolloutController
from gateway.policy.canary.rollout import Event, Phase
from tests.docs.commands import ROOT
from tests.e2e.fakes import backends, good
from tests.e2e.harness import Running, gateway
from tests.e2e.processes import Process, running
from tests.e2e.test_canary import FAST
from tests.waiting import DEADLINE, eventually

MODEL = "llama-3.1-8b"
_SHELL = re.compile(r"[|<>&;$`]")
_GOES_ON = re.compile(r"tidegate (serve|sim) ")
_URL = re.compile(r"http://[0-9.]+:\d+")


class Scene:
    """Runs commands as a person would who follows a page.

    Addresses, names and times that stand for the reader's own are those of this place; all else is run as written.
    """

    def __init__(self, folder: Path, served: Running, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._served = served
        self._stack = stack
        self._addresses = {
            "http://127.0.0.1:8080": served.data,
            "http://127.0.0.1:9000": served.admin,
            "POOL/HOST:PORT": served.backend().id,
            "MODEL": MODEL,
            "2026-01-31T12:00:00Z": _ago(minutes=10),
            "2026-01-31T12:04:30Z": _ago(minutes=5),
        }
        bins = folder / "bin"
        bins.mkdir()
        self._write(bins / "tidegate", f'exec {sys.executable} -m gateway "$@"')
        self._write(bins / "make", f'exec {shutil.which("make")} --directory {ROOT} --dry-run "$@"')
        self._path = f"{bins}:{os.environ['PATH']}"

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    @property
    def rollouts(self) -> RolloutController:
        """Of the gateway that the commands ask."""
        return self._served.app.control.rollouts

    @property
    def environment(self) -> Mapping[str, str]:
        """What a command finds in its environment."""
        return {"TIDEGATE_ADMIN": self._served.admin, "CI_JOB_ID": "job-7", "COLUMNS": "160"}

    async def start_rollout(self) -> None:
        """Start the rollout of v2, and wait until users get its answers."""
        found = self.rollouts.ask(MODEL, Event.START, actor="ann", reason="a page shows one")
        await eventually(lambda: found.rollout.phase is Phase.STEP)

    async def wants_known(self) -> None:
        """Wait until the gateway can say how many replicas the pool wants."""
        wants = self._served.app.control.capacity
        await eventually(lambda: all(each.want is not None for each in wants))

    async def run(self, text: str) -> tuple[int, str]:
        """Run a command; return its exit code and what it printed."""
        for written, here in self._addresses.items():
            text = text.replace(written, here)
        if _GOES_ON.match(text):
            return await self._start(shlex.split(text)[1:])
        if text.startswith("tidegate ") and not _SHELL.search(text):
            result = await asyncio.to_thread(
                CliRunner().invoke, app, shlex.split(text)[1:], env=dict(self.environment), prog_name="tidegate"
            )
            return result.exit_code, result.output
        return await self._shell(text)

    async def _shell(self, text: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-ec",
            text,
            cwd=self._folder,
            env={**os.environ, **self.environment, "PATH": self._path},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(DEADLINE):
            printed, _ = await process.communicate()
        return process.returncode or 0, printed.decode()

    async def _start(self, words: list[str]) -> tuple[int, str]:
        """Start what goes on until Ctrl-C, on another port, and leave it until the page is done."""
        port = words[words.index("--port") + 1] if "--port" in words else ""
        ports = ("--port", "0", *(("--admin-port", "0") if words[0] == "serve" else ()))
        child: Process = await self._stack.enter_async_context(running("gateway", *words, *ports))
        line = await child.said("listening on" if words[0] == "sim" else "tidegate serves")
        self._addresses[f"localhost:{port}"] = _URL.findall(line)[0].removeprefix("http://")
        return 0, line


def _ago(*, minutes: int) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def routes(stable: list[str], candidate: list[str]) -> str:
    """Return routes in which the names that pages use are."""
    versions = {"v1": {"pools": ["gpu"], "served_model": "m"}, "v2": {"pools": ["gpu-next"], "served_model": "m"}}
    canary = {"stable": "v1", "candidate": "v2", "start": "manual", **FAST, "hold": "30m", "max_hold": "2h"}
    capacity = {"min": 1, "max": 8, "approve_above": 6}
    one: dict[str, Any] = {"versions": {"v1": versions["v1"]}}
    return json.dumps(
        {
            "pools": {
                "gpu": {"backends": stable, "cost_per_hour": 2.5, "capacity": capacity},
                "gpu-next": {"backends": candidate},
            },
            "models": {MODEL: {"versions": versions, "canary": canary}, "my-model": one},
        }
    )


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """Set up the place in an empty folder, which should be the current one."""
    async with AsyncExitStack() as stack:
        old, other, new = await stack.enter_async_context(backends(good, good, good))
        text = routes([old.url, other.url], [new.url])
        state = f"sqlite:///{folder / 'state.sqlite'}"
        served = await stack.enter_async_context(gateway(folder, text, state=state))
        (folder / "my-routes").mkdir()
        wrong = "models:\n  llama:\n    versions: {v1: {pools: [a]}, v2: {pools: [a]}}\n    split: {v1: 90, v3: 10}\n"
        (folder / "my-routes" / "llama.yaml").write_text(f"{wrong}pools: {{a: {{backends: ['{old.url}']}}}}\n")
        yield Scene(folder, served, stack)
