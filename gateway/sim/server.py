"""Hosts a simulated server: its sockets, its signals, its refusal of connections."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator

import uvicorn
import uvloop
from fastapi import FastAPI

from gateway.sim.app import control_app, engine_app
from gateway.sim.connection import Connection
from gateway.sim.control import Control
from gateway.sim.faults import Faults
from gateway.sim.settings import Settings
from gateway.sim.simulation import Simulation

_BACKLOG = 2048


class SimServer:
    """A simulated server and its listeners; `port` and `control_port` are known once it has started."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.simulation = Simulation(settings)
        has_control = settings.control_port is not None
        control = Control(self.simulation, self._refuse, survives_refusal=has_control)
        self._engine = _Host(engine_app(self.simulation, control))
        self._control = _Host(control_app(control)) if has_control else None
        self._tasks: list[asyncio.Task[None]] = []
        self._comeback: asyncio.Task[None] | None = None
        self.port = 0
        self.control_port: int | None = None

    def __repr__(self) -> str:
        return f"<SimServer {self.url} {self.simulation!r}>"

    @property
    def url(self) -> str:
        """Where it listens."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Take the ports, load the model, accept; OSError when a port is taken."""
        listener = bind(self.settings.host, self.settings.port)
        self.port = listener.getsockname()[1]
        if self._control is not None and self.settings.control_port is not None:
            control_listener = bind(self.settings.host, self.settings.control_port)
            self.control_port = control_listener.getsockname()[1]
            await self._control.accept(control_listener)
            self._tasks.append(asyncio.create_task(self._control.main_loop()))
        try:
            await asyncio.sleep(self.settings.startup_seconds)
        except asyncio.CancelledError:
            listener.close()
            raise
        await self._engine.accept(listener)
        self._tasks.append(asyncio.create_task(self._engine.main_loop()))
        self._tasks.append(asyncio.create_task(self.simulation.run()))

    async def forever(self) -> None:
        """Wait without end, unless a part of the server fails: its exception is raised."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Close every listener and connection; answers under way are cut."""
        for host in (self._engine, self._control):
            if host is not None:
                await host.close()
        tasks = [*self._tasks, *([self._comeback] if self._comeback else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _refuse(self, faults: Faults) -> None:
        """Close or open the engine's port as these faults want it."""
        if self._comeback is not None:
            self._comeback.cancel()
            self._comeback = None
        if faults.refuses:
            self._engine.refuse()
        elif not self._engine.accepts:
            await self._engine.accept(bind(self.settings.host, self.port))
        if faults.refuse_seconds is not None:
            self._comeback = asyncio.create_task(self._come_back(faults.refuse_seconds))

    async def _come_back(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._engine.accept(bind(self.settings.host, self.port))


class _Host(uvicorn.Server):
    """uvicorn for one listener that can be closed and opened again; signals are left to the process."""

    def __init__(self, app: FastAPI) -> None:
        config = uvicorn.Config(
            app, http=Connection, ws="none", lifespan="off", log_config=None, access_log=False, backlog=_BACKLOG
        )
        super().__init__(config)
        config.load()
        self.lifespan = config.lifespan_class(config)
        self.servers = []

    @property
    def accepts(self) -> bool:
        """Whether new connections get in."""
        return bool(self.servers)

    async def accept(self, listener: socket.socket) -> None:
        """Listen on a bound socket."""
        await self.on_tick(0)
        await self.startup([listener])

    def refuse(self) -> None:
        """Stop listening, and drop the connections that no answer is under way on."""
        for server in self.servers:
            server.close()
        self.servers = []
        for connection in list(self.server_state.connections):
            connection.shutdown()

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        self.should_exit = True
        self.refuse()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=1.0)


def bind(host: str, port: int) -> socket.socket:
    """Bind a TCP socket that refuses connections until it listens. Raises OSError if the address is taken."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from None
    return listener


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[SimServer]:
    """Run a simulated server in the current event loop, for tests and demonstrations."""
    server = SimServer(settings)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


def run(settings: Settings) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, with one line on standard output once connections are accepted."""
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()  # as under nohup
    for number in {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} - ignored:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = asyncio.create_task(_announce(settings))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def _announce(settings: Settings) -> None:
    async with running(settings) as server:
        control = f" control=http://{settings.host}:{server.control_port}" if server.control_port else ""
        line = f"tidegate sim listening on {server.url} profile={settings.profile.name} model={settings.models[0]}"
        print(line + control, flush=True)  # noqa: T201 - this line is the command's output
        await server.forever()
