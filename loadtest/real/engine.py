"""A real vLLM, or transformers serve, with a tiny model: found, started, signalled and ended."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from loadtest.bench.peers import free_port

MODEL = "tiny"
KEY = "sk-real"
"""The key of the engine, and of the gateway's only tenant, so that clients differ in their base URL alone."""

START_WITHIN = 600.0
"""Seconds; about 60 on an idle machine, many times that beside other work."""

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_HOST_IP": "127.0.0.1",
    "OMP_NUM_THREADS": "1",
}
_OPTIONS = (
    *("--dtype", "bfloat16", "--max-model-len", "2048", "--max-num-seqs", "4", "--enforce-eager"),
    *("--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}'),
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--sse-keep-alive-interval", "1"),
    *("--max-num-queued-reqs", "4"),
)


class NoEngine(RuntimeError):
    """There is no engine to be started, or it did not come up; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A folder with a virtual environment in `vllm`, and beside it the folder of a model.

    Another environment, in `hfserve`, may have transformers serve.
    """

    home: Path
    model: Path

    @classmethod
    def found(cls) -> "Installed":
        """Return what TIDEGATE_REAL names, or the default; raises NoEngine where something is missing."""
        home = Path(os.environ.get("TIDEGATE_REAL", "~/.cache/tidegate-real")).expanduser().absolute()
        models = sorted(home.glob("*/config.json"))
        for missing, there in ((home / "vllm/bin/vllm", (home / "vllm/bin/vllm").exists()), (home / "MODEL", models)):
            if not there:
                raise NoEngine(f"{missing} is missing; docs/real-engines.md says how to set it up (TIDEGATE_REAL)")
        return cls(home, models[0].parent)

    def transformers(self) -> Path | None:
        """Return the command of transformers; None where it is not installed."""
        command = self.home / "hfserve/bin/transformers"
        return command if command.exists() else None

    def version(self) -> str:
        """Return the version of vLLM, as its package says."""
        found = sorted(self.home.glob("vllm/lib/python*/site-packages/vllm_cpu-*.dist-info"))
        found += sorted(self.home.glob("vllm/lib/python*/site-packages/vllm-*.dist-info"))
        return found[0].name.removesuffix(".dist-info").split("-")[1] if found else "unknown"


class Engine:
    """An engine that runs; a vLLM is an API server, and its EngineCore as a child process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._process = process

    def signal_api_server(self, number: int) -> None:
        """Send a signal to the API server alone."""
        self._process.send_signal(number)

    def signal_core(self, number: int) -> None:
        """Send a signal to EngineCore alone; raises NoEngine where there is none."""
        os.kill(self._core(), number)

    def signal_all(self, number: int) -> None:
        """Send a signal to all processes of the engine."""
        os.killpg(self._process.pid, number)

    def healthy(self) -> bool:
        """Whether `/health` answers 200 within 5 s."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def wait_until_healthy(self) -> None:
        """Wait for `/health`; raises NoEngine when the process ends or the time is over."""
        deadline = time.monotonic() + START_WITHIN
        while not self.healthy():
            if self._process.poll() is not None:
                raise NoEngine(f"the engine ended with status {self._process.returncode}")
            if time.monotonic() > deadline:
                raise NoEngine(f"the engine did not come up in {START_WITHIN:g} s")
            time.sleep(0.5)

    def end(self) -> None:
        """Kill whatever is left of it."""
        with contextlib.suppress(ProcessLookupError):
            self.signal_all(signal.SIGKILL)
        self._process.wait()

    def _core(self) -> int:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                name, _, rest = stat.read_text().rpartition(")")
                if int(rest.split()[2]) == self._process.pid and "EngineCor" in name:
                    return int(stat.parent.name)
        raise NoEngine("this vLLM has no process called EngineCore")


@contextlib.contextmanager
def running(installed: Installed, folder: Path) -> Iterator[Engine]:
    """Start a vLLM, at low priority, and end it with all of its processes; its words go into `folder`."""
    port = free_port()
    vllm = installed.home / "vllm/bin/vllm"
    command: list[str | Path] = [vllm, "serve", installed.model, "--served-model-name", MODEL]
    with _started([*command, *_at(port), "--api-key", KEY, *_OPTIONS], port, folder / "vllm.log") as engine:
        yield engine


@contextlib.contextmanager
def running_transformers(installed: Installed, command: Path, folder: Path) -> Iterator[Engine]:
    """Start transformers serve likewise. It knows a model by its folder alone, and no keys."""
    port = free_port()
    (folder / MODEL).unlink(missing_ok=True)
    (folder / MODEL).symlink_to(installed.model)
    serve: list[str | Path] = [command, "serve", MODEL, "--device", "cpu", *_at(port)]
    with _started(serve, port, folder / "transformers.log", where=folder) as engine:
        yield engine


def _at(port: int) -> tuple[str, ...]:
    return ("--host", "127.0.0.1", "--port", str(port))


@contextlib.contextmanager
def _started(command: Sequence[str | Path], port: int, log: Path, where: Path | None = None) -> Iterator[Engine]:
    with log.open("ab") as said:
        process = subprocess.Popen(
            ["nice", *command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=os.environ | _ENVIRONMENT,
            cwd=where,
            start_new_session=True,
        )
    engine = Engine(process, port)
    try:
        try:
            engine.wait_until_healthy()
        except NoEngine as error:
            raise NoEngine(f"{error}; see {log}") from None
        yield engine
    finally:
        engine.end()


if __name__ == "__main__":
    try:
        Installed.found()
    except NoEngine as error:
        sys.exit(f"make real: {error}")
