"""One worker as the supervisor sees it: its process, the channel to it, and how far it is."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from gateway.shared.memory import SharedTable
from gateway.workers.channel import Channel, Message
from gateway.workers.descriptors import hand_on, keep
from gateway.workers.inherited import VARIABLE, Inherited

_OF_THE_SUPERVISOR = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class Stage(StrEnum):
    """How far a worker is."""

    STARTING = "starting"
    READY = "ready"
    SERVING = "serving"
    RETIRING = "retiring"


@dataclass(eq=False)
class WorkerProcess:
    """A worker of one generation, in one of its places. Times are seconds since the epoch.

    `accepts` are the sockets from which it accepts, by index, as it has said; `ordered` as it was told last.
    """

    pid: int
    generation: int
    place: int
    admin: str
    since: float
    connected: socket.socket
    stage: Stage = Stage.STARTING
    accepts: frozenset[int] = frozenset()
    ordered: frozenset[int] = frozenset()
    leads: bool = False
    wanting: frozenset[str] = frozenset()
    """The pools without an engine whose requests it holds."""
    wakes: frozenset[str] = frozenset()
    """Those for which it was told last to have an engine woken."""
    routes: int = 0
    """The number of the routes that it has in force."""
    problem: str = ""
    """Why the last routes are not."""
    last: bytes = b""
    """All its metrics as it has told them last, "" before that: they are read when it has ended."""
    row: int | None = None
    """Its row in the table that workers share."""
    popen: "subprocess.Popen[bytes] | None" = None
    channel: Channel | None = None
    waiting: list[tuple[Message, bytes]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.pid} of generation {self.generation} {self.stage}>"

    def send(self, message: Message, data: bytes = b"") -> None:
        """Send it a message, once the channel is there."""
        if self.channel is None:
            self.waiting.append((message, data))
        else:
            self.channel.send(message, data)

    async def connect(
        self,
        told: Callable[["WorkerProcess", Message, bytes], None],
        ended: Callable[["WorkerProcess", int], None],
    ) -> None:
        """Listen to it until it has ended; `ended` gets its status, negative for a signal."""
        gone = asyncio.Event()
        self.channel = await Channel.over(self.connected, lambda *message: told(self, *message), gone.set)
        for message, data in self.waiting:
            self.channel.send(message, data)
        self.waiting.clear()
        await gone.wait()
        ended(self, await asyncio.to_thread(self._reaped))

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _reaped(self) -> int:
        """Wait for its end: without the channel it is of no use, if it lives at all."""
        self.kill()
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            return 0
        finally:
            if self.popen is not None:
                self.popen.returncode = 0  # it has been waited for
        return os.waitstatus_to_exitcode(status)

    def state(self) -> dict[str, Any]:
        """Return what another program in this process has to know to go on with it."""
        return {
            "pid": self.pid,
            "generation": self.generation,
            "place": self.place,
            "admin": self.admin,
            "since": self.since,
            "connected": hand_on(self.connected.fileno()),
            "stage": self.stage,
            "accepts": sorted(self.accepts),
            "leads": self.leads,
            "wanting": sorted(self.wanting),
            "wakes": sorted(self.wakes),
            "routes": self.routes,
            "row": self.row,
        }


def adopted(state: Mapping[str, Any]) -> WorkerProcess:
    """Return the worker that another program in this process has started."""
    accepts = frozenset(state["accepts"])
    return WorkerProcess(
        pid=state["pid"],
        generation=state["generation"],
        place=state["place"],
        admin=state["admin"],
        since=state["since"],
        connected=socket.socket(fileno=keep(state["connected"])),
        stage=Stage(state["stage"]),
        accepts=accepts,
        ordered=accepts,
        leads=state["leads"],
        wanting=frozenset(state.get("wanting", ())),
        wakes=frozenset(state.get("wakes", ())),
        routes=state["routes"],
        row=state.get("row"),
    )


def own_command() -> list[str]:
    """Return the command line of this process."""
    return [sys.executable, *sys.orig_argv[1:]]


def start(
    command: Sequence[str], given: Inherited, generation: int, place: int, *, table: SharedTable, row: int | None
) -> WorkerProcess:
    """Start a worker in a session of its own, so that Ctrl-C reaches the supervisor alone. Raises OSError.

    It gets what is `given`, with a channel that is made here.
    """
    ours, theirs = socket.socketpair()
    environ = {name: value for name, value in os.environ.items() if name not in _OF_THE_SUPERVISOR}
    environ[VARIABLE] = replace(given, channel=theirs.fileno()).variable()
    with theirs:
        popen = subprocess.Popen(  # noqa: S603 - ourselves
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), *given.sockets, *table.fds),
            env=environ,
            start_new_session=True,
        )
    return WorkerProcess(popen.pid, generation, place, given.admin, time.time(), ours, popen=popen, row=row)
