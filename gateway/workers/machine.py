"""The supervisor of `tidegate serve --workers N`: holds every listening socket, and serves no client itself."""

import asyncio
import io
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from gateway import systemd
from gateway.admin.connection import AdminConnection, AdminLimits
from gateway.admin.events import RecentEvents
from gateway.clock import monotonic
from gateway.config.load import load_routes
from gateway.config.problems import RoutesError
from gateway.config.table import RouteTable
from gateway.config.transfer import receive, send
from gateway.control.reload import Reloader
from gateway.control.supervisor import Supervisor
from gateway.control.sweep import sweep
from gateway.control.watching import watch
from gateway.lateness import Lateness
from gateway.listeners import Addresses, Listener, ListenerFiles, bind_listeners, listener, url
from gateway.processes.resources import raise_descriptor_limit
from gateway.settings import Settings
from gateway.shared.memory import SharedTable
from gateway.signals import NOT_THE_END, hold_all, release_all
from gateway.state.store import StateError
from gateway.state.url import loaded, open_store, opened
from gateway.wire.slices import Slices, finish
from gateway.workers.admin import MachineAdmin, MachineView
from gateway.workers.channel import Message
from gateway.workers.inherited import Inherited
from gateway.workers.merging import Expositions
from gateway.workers.problems import StartError
from gateway.workers.process import Stage, WorkerProcess, adopted, start
from gateway.workers.roster import Roster
from gateway.workers.succession import Succession, replace_program

_log = logging.getLogger(__name__)
_APPLIED_SECONDS = 30.0
"""How long workers may take to put routes in force before one counts as behind."""
_SWEEP = 0.5
"""Seconds between two looks at deadlines of the admin listener: there are no others here."""
_LAST_LINES = 0.05
_LAST_REQUESTS, _TURN = 0.3, 0.02
"""Seconds in which a client that has just connected to the admin listener sends its request."""
_MEMORY = "memory://"


class Machine:
    """The workers of one machine, what they share, and the one admin listener.

    `handed_on` is what a supervisor before this one in the same process left.
    """

    def __init__(
        self, settings: Settings, places: int, command: Sequence[str], handed_on: Succession | None = None
    ) -> None:
        self._settings, self._places, self._command = settings, places, command
        self._handed_on = handed_on
        self._files = ListenerFiles(settings)
        self._events = RecentEvents()
        self._stopping = asyncio.Event()
        self._routes, self._number = b"", 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._upgrading = False
        self._started = 0

    async def run(self, started: Callable[[Addresses], None]) -> None:
        """Serve until told to stop; `started` is called once all workers accept.

        Raises what `App.run` raises, RoutesError, and StartError when a worker cannot be started.
        """
        raise_descriptor_limit()
        if self._handed_on is None:
            self._prepare()
        else:
            self._resume(self._handed_on)
        loops = self._run_loops()
        self._admin = self._open_admin()
        self._handle_signals()
        self._roster.fill()
        try:
            await self._serve(started)
        finally:
            await loops.close()
            self._events.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _prepare(self) -> None:
        """Take what the workers need; blocks."""
        settings = self._settings
        table = load_routes(settings.routes, listeners=settings.listeners)
        self._files.read()
        self._sockets = bind_listeners(settings, self._places)
        self._table = SharedTable.create(self._places)
        self._folder = tempfile.mkdtemp(prefix="tidegate-")
        try:
            self._state = self._checked_state()
        except StateError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._build(table, time.time())
        self._note(table)

    def _resume(self, before: Succession) -> None:
        """Go on where another program in this process was; blocks."""
        self._sockets = before.listening()
        self._folder, self._state = before.folder, before.state
        self._table = SharedTable.adopt(before.table) or SharedTable.create(self._places)
        self._routes, self._number = before.routes, before.number
        self._files.read()
        failure: RoutesError | None = None
        try:
            table = load_routes(self._settings.routes, listeners=self._settings.listeners)
        except RoutesError as error:
            failure, table = error, finish(receive(before.routes))
        self._build(table, before.began)
        self._view.expositions = Expositions.restored(before.expositions)
        self._view.upgrades = before.upgrades + 1
        self._view.upgrade = f"generation {before.generation} serves"
        self._view.reloader.loads, self._view.reloader.failures = before.loads, before.load_failures
        self._view.reloader.failure = failure
        self._roster.restarts = before.restarts
        self._roster.adopt(before.generation, map(adopted, before.workers))

    def _build(self, table: RouteTable, began: float) -> None:
        reloader = Reloader(self._settings.routes, table, self._put_in_force, listeners=self._settings.listeners)
        reloader.mark()
        self._roster = Roster(self._places, len(self._sockets.data), self._start, self._greeting, self._over)
        self._view = MachineView(self._roster, reloader, began, self.start_upgrade, events=self._events)

    def _checked_state(self) -> str:
        """Return where the workers keep state, which they have to share; raises StateError."""
        store = opened(self._settings.state)
        if store.where == _MEMORY:
            store = open_store(f"sqlite:///{Path(self._folder) / 'state.sqlite'}")
        loaded(store, time.time())  # one process alone repairs what is damaged
        store.close()
        return self._settings.state if self._settings.state and store.remote else store.where

    # Workers

    def _start(self, generation: int, place: int) -> WorkerProcess:
        self._started += 1
        sockets = tuple(each.fileno() for each in self._sockets.data)
        admin = str(Path(self._folder) / f"{os.getpid()}-{generation}-{place}-{self._started}-{time.monotonic_ns()}")
        row = self._table.allot(self._started)
        named = "" if row is None else self._table.named(row)
        given = Inherited(-1, sockets, admin, self._state, lasting=self._sockets.lasting, table=named)
        try:
            return start(self._command, given, generation, place, table=self._table, row=row)
        except OSError:
            self._table.clear(row)
            raise

    def _greeting(self) -> tuple[Message, bytes]:
        return {"do": "routes", "number": self._number}, self._routes

    def _over(self, worker: WorkerProcess) -> None:
        self._table.clear(worker.row)
        self._view.expositions.over(worker.pid, worker.last)
        self._soon(self._view.asking.forget(worker))
        with suppress(OSError):
            os.unlink(worker.admin)

    # Routes

    def _note(self, table: RouteTable) -> bytes:
        """Have workers to come get these routes."""
        stream = io.BytesIO()
        send(table, stream)
        self._routes, self._number = stream.getvalue(), self._number + 1
        return self._routes

    async def _put_in_force(self, table: RouteTable) -> None:
        """Hand the same bytes to all workers, and wait until each has put them in force."""
        data = await asyncio.to_thread(self._note, table)
        number = self._number
        self._roster.tell({"do": "routes", "number": number}, data)

        def behind() -> list[WorkerProcess]:
            asked = [each for each in self._roster.workers if each.stage is not Stage.RETIRING]
            return [each for each in asked if each.routes != number or each.problem]

        await self._roster.until(lambda: not any(each.routes != number for each in behind()), _APPLIED_SECONDS)
        late = behind()
        for each in late:
            each.problem = each.problem or f"no answer in {_APPLIED_SECONDS:g} s"
        if late:
            reasons = {str(each.pid): each.problem for each in late}
            _log.error("workers go on with the old routes", extra={"workers": reasons})

    async def _reread(self) -> None:
        if not self._stopping.is_set():
            self._roster.tell({"do": "reread"})
            await self._view.reloader.again()
            for source in self._files.watched:
                await source.again()

    # The course of the process

    async def _serve(self, started: Callable[[Addresses], None]) -> None:
        roster = self._roster
        await roster.until(lambda: roster.is_complete or bool(roster.failure) or self._stopping.is_set())
        if roster.is_complete and not self._stopping.is_set():
            if self._handed_on is None:
                settings = self._settings
                data = url(self._sockets.data[0], tls=bool(settings.tls))
                started(Addresses(data, url(self._sockets.admin, tls=bool(settings.admin_tls))))
            else:
                _log.info("upgraded", extra={"generation": roster.generation})
                self._soon(self._view.reloader.again())
            systemd.notify("READY=1")
        elif roster.failure:
            self._stop()
        await self._stopping.wait()
        systemd.notify("STOPPING=1")
        await roster.empty()
        await self._close_admin()
        if roster.failure:
            raise StartError(f"{roster.failure}: what it said is above")

    def _stop(self) -> None:
        """Have the workers drain; a second call ends them at once."""
        self._view.is_stopping = True
        self._stopping.set()
        self._roster.stop()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in NOT_THE_END:
            loop.add_signal_handler(number, partial(_log.info, "signal ignored", extra={"signal": number.name}))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._soon(self._reread()))
        loop.add_signal_handler(signal.SIGUSR2, self.start_upgrade)
        release_all()

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _run_loops(self) -> Supervisor:
        self._answers = MachineAdmin(self._view)
        loops = Supervisor()
        loops.start("watch files", partial(watch, (self._view.reloader, *self._files.watched)))
        loops.start("keep counts", self._answers.keep_counts)
        checked = partial(sweep, self._connections, monotonic, Lateness(), Slices(monotonic), _SWEEP)
        loops.start("sweep", checked)
        return loops

    # The admin listener

    def _open_admin(self) -> Listener:
        self._answers.feed.open()
        limits = AdminLimits()
        app = self._answers.app(self._settings.admin_host, self._files.token)
        connection = partial(AdminConnection, limits=limits, clock=monotonic)
        more = {"backlog": limits.connections, "access_log": False, "timeout_keep_alive": int(limits.idle_seconds)}
        admin = listener(app, connection, self._files.doors.get("admin"), limits.admit, **more)
        admin.refuses_others = False
        self._administering = asyncio.get_running_loop().create_task(admin.serve(sockets=[self._sockets.admin.dup()]))
        return admin

    def _connections(self) -> Any:
        return (self._admin.server_state.connections,)

    async def _pause_admin(self) -> None:
        """Let connects wait for another program, and answer what has been asked by those that are open."""
        self._answers.feed.close()
        for server in self._admin.servers:
            server.close()
        limits = AdminLimits()
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.request_seconds):
                await asyncio.sleep(_LAST_REQUESTS)
                while self._is_asked():  # noqa: ASYNC110 - connections tell of no end
                    await asyncio.sleep(_TURN)

    def _is_asked(self) -> bool:
        return any(cast(AdminConnection, each).busy for each in self._admin.server_state.connections)

    async def _close_admin(self) -> None:
        """Close the admin listener, whoever is connected."""
        self._answers.feed.close()
        self._admin.should_exit = True
        await asyncio.wait((self._administering,), timeout=AdminLimits().idle_seconds)
        self._admin.force_exit = True
        await self._administering

    # Upgrades

    def start_upgrade(self) -> bool:
        """Begin to replace all workers and this program itself; return whether that can be."""
        if self._upgrading or self._stopping.is_set() or not self._roster.is_complete:
            _log.warning("no upgrade: one is in progress, or not all workers serve")
            return False
        self._upgrading, self._view.upgrade = True, "in progress"
        self._soon(self._upgrade(self._roster.generation + 1))
        return True

    async def _upgrade(self, generation: int) -> None:
        systemd.reloading()
        _log.info("upgrade begins", extra={"generation": generation})
        reason = await self._roster.prepare(generation)
        if not reason and not self._stopping.is_set():
            reason = await self._hand_on(generation)
        await self._roster.drop(generation)
        _log.error("not upgraded: all goes on as before", extra={"generation": generation, "reason": reason})
        self._view.upgrade, self._upgrading = f"failed: {reason}", False
        systemd.notify("READY=1")

    async def _hand_on(self, generation: int) -> str:
        """Become the new program; return why that is not possible."""
        await self._pause_admin()
        await self._close_admin()
        await asyncio.sleep(_LAST_LINES)  # the thread of the log has its time
        await self._roster.quiet()
        if self._stopping.is_set():
            return "the gateway is stopping"
        hold_all()
        try:
            self._table.hand_on()
            replace_program(self._command, self._succession(generation))
        except OSError as error:
            self._admin = self._open_admin()
            release_all()
            return str(error)

    def _succession(self, generation: int) -> Succession:
        view = self._view
        for each in self._roster.workers:
            if each.last:
                view.expositions.saw(each.pid, each.last)
        return Succession(
            generation=generation,
            sockets=[each.fileno() for each in self._sockets.data],
            admin=self._sockets.admin.fileno(),
            lasting=self._sockets.lasting,
            folder=self._folder,
            state=self._state,
            began=view.began,
            upgrades=view.upgrades,
            restarts=self._roster.restarts,
            loads=view.reloader.loads,
            load_failures=view.reloader.failures,
            workers=[each.state() for each in self._roster.workers],
            expositions=view.expositions.state(),
            number=self._number,
            routes=self._routes,
            table=self._table.fds[0],
        )
