"""Starting and ending what is measured: the mock engine, and the gateways in front of it."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import yaml

from loadtest.bench import proc

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
START_WITHIN = 30.0
END_WITHIN = 5.0

MODEL = "mock-model"
KEY = "sk-test-1234"
"""The API key that sseload sends."""
_ADMIN_PORT = "--admin-port"


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def find_nginx() -> str:
    """The path of nginx, the yardstick, as `find_packaged`."""
    return find_packaged("nginx", "nginx-light")


def find_packaged(program: str, package: str) -> str:
    """The path of a program of the distribution; installed first where it is missing and this user may.

    Raises SystemExit otherwise.
    """
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    if found := shutil.which(program, path=search):
        return found
    apt = shutil.which("apt-get")
    if os.geteuid() != 0 or apt is None:
        raise SystemExit(f"{program} is measured too and is not installed; as root: apt-get install {package}")
    # In run level 1 the package does not start the server it brings.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run([apt, "update", "-qq"], env=quiet, check=True)
    subprocess.run([apt, "install", "-y", "-qq", "--no-install-recommends", package], env=quiet, check=True)
    if found := shutil.which(program, path=search):
        return found
    raise SystemExit(f"{package} was installed, but there is no {program} in PATH")


def find_tidegate() -> list[str]:
    """The command in $TIDEGATE, else the checkout's own; raises SystemExit where there is none."""
    if given := shlex.split(os.environ.get("TIDEGATE", "")):
        return given
    own = ROOT / ".venv" / "bin" / "tidegate"
    if not own.exists():
        raise SystemExit("tidegate is not installed; run it with: make bench")
    return [str(own)]


def tidegate(
    port: int, folder: Path, routes: Mapping[str, Any], *options: str, program: Sequence[str] = ()
) -> list[str]:
    """What starts tidegate on `port` with these routes and options; writes its files to `folder`.

    `program` is the command; without it, the one that `find_tidegate` finds.
    """
    path = folder / "routes.yaml"
    path.write_text(yaml.safe_dump(dict(routes), sort_keys=False))
    address = ["--host", "127.0.0.1", "--port", str(port), _ADMIN_PORT, str(free_port())]
    state = f"sqlite:///{folder / 'state.sqlite'}"
    return [*(program or find_tidegate()), "serve", str(path), *address, "--state", state, *options]


def admin_port(argv: Sequence[str]) -> int | None:
    """Return the port of the admin listener of what `tidegate` starts, None for other gateways."""
    return int(argv[argv.index(_ADMIN_PORT) + 1]) if _ADMIN_PORT in argv else None


@contextmanager
def running(argv: list[str], core: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process, pinned to `core`, its output in `folder`; on leaving it has ended, and its children with it."""
    pinned = ["taskset", "-c", str(core), *argv]
    with (folder / "stdout.log").open("wb") as out, (folder / "stderr.log").open("wb") as err:
        # A session of its own: Ctrl-C reaches only this program, which then ends the others in order.
        process = subprocess.Popen(pinned, stdout=out, stderr=err, cwd=folder, start_new_session=True)
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Asks the process to end, and kills what is left of its tree after END_WITHIN seconds."""
    pids = proc.tree(process.pid) if process.poll() is None else []
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_WITHIN)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def get_json(port: int, path: str) -> Any:
    """GETs one document from 127.0.0.1; raises OSError or HTTPException where no server answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return json.load(connection.getresponse())
    finally:
        connection.close()


def _answers(port: int) -> bool:
    message = {"role": "user", "content": "mock:ttft=0,itl=0,n=1;"}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    body = json.dumps({"model": MODEL, "messages": [message], "max_tokens": 1})
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def wait_until_it_answers(process: subprocess.Popen[bytes], port: int, folder: Path) -> float:
    """Seconds until a completion came back with 200; raises SystemExit when it ends or takes too long."""
    began = time.monotonic()
    while not _answers(port):
        if process.poll() is not None or time.monotonic() - began > START_WITHIN:
            raise SystemExit(f"{folder.name} did not start; see {folder}")
        time.sleep(0.02)
    return time.monotonic() - began
