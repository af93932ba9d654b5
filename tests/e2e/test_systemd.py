"""A gateway as a service of systemd: with its sockets, and with words for it."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat
from tests.e2e.processes import Process, following
from tests.waiting import DEADLINE, eventually

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def service(folder: Path, backend: str, listening: socket.socket, *arguments: str) -> AsyncIterator[Process]:
    """Run a gateway as systemd does: its socket is descriptor 3, and its words go to `folder`/notify."""
    (folder / "routes.yaml").write_text(json.dumps({"models": {"m": {"backends": [backend]}}}))
    start = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3);"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'NOTIFY_SOCKET': sys.argv[2]};"
        "os.execv(sys.executable, [sys.executable, *sys.argv[3:]])"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", start, str(listening.fileno()), str(folder / "notify")),
        *("-m", "gateway.cli", "serve", str(folder / "routes.yaml"), "--state", "memory://", "--admin-port", "0"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=(listening.fileno(),),
    )
    async with following(process) as child:
        yield child


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["one process", "workers"])
async def test_clients_wait_while_the_service_is_restarted(tmp_path: Path, workers: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(0)
        number = listening.getsockname()[1]
        early = socket.create_connection(("127.0.0.1", number))  # before there is a gateway
        async with backends(good) as (fake,):
            for turn in range(2):
                async with service(tmp_path, fake.url, listening, *workers) as child:
                    assert f":{number}/v1" in await child.said("tidegate serves")
                    async with asyncio.timeout(DEADLINE):
                        assert await asyncio.get_running_loop().sock_recv(told, 100) == b"READY=1"
                    await eventually(lambda: "backend ready" in "".join(child.err))
                    assert (await ask(number, chat(stream=False))).status == 200
                    if not turn:
                        early.sendall(b"GET /health HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n")
                        early.settimeout(DEADLINE)
                        assert (await asyncio.to_thread(early.recv, 100)).startswith(b"HTTP/1.1 200")
                        early.close()
                    child.process.terminate()
                    assert await child.ended() == 0
                while workers and told.recv(100) != b"STOPPING=1":
                    pass
