"""One gateway process: restores what was kept, builds the three planes, and runs them in one event loop."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Collection, Coroutine, Iterable
from functools import partial
from random import Random
from typing import Any, cast

from gateway import clock
from gateway.admin.protection import is_loopback
from gateway.admin_plane import AdminPlane
from gateway.clock import Clock
from gateway.config.table import RouteTable
from gateway.control.drain import DrainTimes, closed, drain
from gateway.control.supervisor import Supervisor
from gateway.control.sweep import Checked
from gateway.control.watching import Watched
from gateway.control_plane import ControlPlane
from gateway.data_plane import DataPlane
from gateway.listeners import Addresses, Listener, ListenerFiles, Sockets, bind_listeners, url
from gateway.observers import Observer
from gateway.policy.routing.choose import choose
from gateway.processes.resources import collect_seldom, hand_over_soon, raise_descriptor_limit
from gateway.proxy.routed_request import Chooser
from gateway.settings import Settings
from gateway.shared.memory import joined
from gateway.signals import NOT_THE_END, release
from gateway.state.store import Saved, Store
from gateway.state.url import loaded, opened
from gateway.threads import in_thread
from gateway.wire.phase import LAST_CALL

_log = logging.getLogger(__name__)


class App:
    """One gateway process. `data` and `control` are there once it has `started`.

    With `sockets` from outside, routes come from there too: nobody here watches the route files.
    """

    data: DataPlane
    control: ControlPlane
    _admin: AdminPlane
    _listener: Listener
    _store: Store
    _saved: Saved

    def __init__(
        self,
        settings: Settings,
        routes: RouteTable,
        *observers: Observer,
        choose: Chooser = choose,
        now: Clock = clock.monotonic,
        sockets: Sockets | None = None,
    ) -> None:
        self._settings, self._routes = settings, routes
        self._observers, self._choose = observers, choose
        self._clock = now
        self._started = 0.0
        self.files = ListenerFiles(settings)
        self._is_worker, self._sockets = sockets is not None, sockets
        self._retires = False
        self._stopping, self._hurry = asyncio.Event(), asyncio.Event()

    async def run(
        self, started: Callable[[Addresses], None], drained: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        """Serve until told to stop; `started` is called once both listeners accept, `drained` when no client is left.

        Raises FilesError for files that a listener cannot use, OSError for addresses that cannot be bound, and
        StateError for a store that was asked for and cannot be used.
        """
        raise_descriptor_limit()
        hand_over_soon()
        self._restore()
        self._build_data_plane()
        self._build_control_plane()
        await self._run(started, drained)

    def stop(self) -> None:
        """Begin to drain; a second call ends at once."""
        if self._retires:
            self._end_retirement()
        elif self._stopping.is_set():
            self._hurry.set()
        self.data.gateway.draining = True
        self._stopping.set()

    def retire(self) -> None:
        """Begin to drain, while other processes accept from the same sockets: clients have time to come to them."""
        if not self._stopping.is_set():
            gateway = self.data.gateway
            gateway.draining = gateway.retiring = self._retires = True
            gateway.last_call = self._settings.drain.timeout
            self._listener.refuses_others = False
            self._stopping.set()

    def _end_retirement(self) -> None:
        """Go on as after `stop`."""
        gateway = self.data.gateway
        gateway.retiring = self._retires = False
        gateway.last_call = LAST_CALL
        for client in self.data.clients():
            client.shutdown()
        asyncio.get_running_loop().call_later(self._settings.drain.timeout, self._hurry.set)

    async def accept_from(self, sockets: Collection[socket.socket]) -> None:
        """Accept clients from exactly these sockets, which other processes have too."""
        await self._listener.accept_from(sockets)

    async def take_routes(self, data: bytes) -> None:
        """Put routes in force that the supervisor has loaded."""
        await self.control.reloader.take(data)

    def set_drained(self, backend: str, *, drained: bool) -> None:
        """Send a backend no requests, or some again, as the leading worker does, which has that saved."""
        with contextlib.suppress(KeyError):
            self.data.registry.drain(backend, drained=drained)

    def wanting(self) -> frozenset[str]:
        """Return the pools without an engine whose requests this process holds."""
        return self.control.waker.wanting

    def wake(self, pools: Collection[str]) -> None:
        """Have engines woken for these pools, and for no others, for all workers."""
        self.control.waker.told(pools)

    async def reread(self) -> None:
        """Read all files again that are read here, while this process is not about to end."""
        if not self._stopping.is_set():
            for source in self._watched():
                await source.again()

    def leads(self) -> bool:
        """Whether this process leads rollouts."""
        return self.control.leads()

    async def exposition(self) -> bytes:
        """Return all metrics as they are now, as Prometheus' own text."""
        self.data.observers.flush()
        return b"".join(await self._admin.metrics.text(open_metrics=False))

    def _restore(self) -> None:
        """Take the files, addresses and state that this process needs: here alone it may block."""
        self.files.read()
        if self._sockets is None:
            self._sockets = bind_listeners(self._settings)  # before the state, which may be a running gateway's own
        self._store = opened(self._settings.state)
        self._started = self._store.wall() - self._clock()
        self._saved = loaded(self._store, self._epoch())

    def _build_data_plane(self) -> None:
        self.data = DataPlane(
            self._settings,
            self._routes,
            clock=self._clock,
            epoch=self._epoch,
            rng=Random(),
            observers=self._observers,
            chooser=self._choose,
        )

    def _build_control_plane(self) -> None:
        table = None if self._settings.table is None else joined(self._settings.table)
        alone = not self._is_worker
        self.control = ControlPlane(self._settings, self._store, self.data, self._epoch, table, alone=alone)
        self.control.restore(self._saved)
        self._admin = AdminPlane(self._settings, self.files, self.data, self.control)

    async def _run(
        self, started: Callable[[Addresses], None], drained: Callable[[], Coroutine[Any, Any, None]] | None
    ) -> None:
        settings, sockets = self._settings, self._sockets
        if sockets is None:
            raise RuntimeError("nothing is restored yet")
        data, admin = self.data.listener(self.files.doors.get("data")), self._admin.listener()
        self._listener, data.refuses_others = data, not sockets.lasting
        admin.refuses_others = not self._is_worker  # who asks a worker belongs to this gateway

        def checked() -> Iterable[Collection[Checked]]:
            of_data, of_admin = data.server_state.connections, admin.server_state.connections
            return cast(set[Checked], of_data), cast(set[Checked], of_admin), self.data.mirroring.copies

        loops = self.control.start(checked, self._watched())
        loops.start("history", self._admin.history.run)
        _handle_signals(self.stop, self.reread)
        serving = asyncio.create_task(data.serve(sockets=[*sockets.data]))
        administering = asyncio.create_task(admin.serve(sockets=[sockets.admin]))
        await data.accepting.wait()
        await admin.accepting.wait()
        if not self.data.current.tenants.closed and not is_loopback(settings.host):
            _log.warning(
                "no tenants in the routes: anyone who reaches this listener may send requests",
                extra={"host": settings.host},
            )
        collect_seldom()
        where = url(sockets.data[0], tls=bool(settings.tls)) if sockets.data else ""
        started(Addresses(where, url(sockets.admin, tls=bool(settings.admin_tls))))
        await self._stopping.wait()
        await self._drain(data, serving)
        if drained is not None:
            await closed(drained(), "what is left to tell", self._hurry)
        self._admin.close()
        admin.should_exit = admin.force_exit = True
        await closed(administering, "the admin listener", self._hurry)
        await self._close(loops)

    async def _drain(self, data: Listener, serving: "asyncio.Task[None]") -> None:
        async def close_listener() -> None:
            data.should_exit = True
            await serving

        times = self._settings.drain
        if self._retires:  # what begins at the end of the last call has as much time again
            times = DrainTimes(0.0, 2 * times.timeout)
        await drain(times, self.data.clients, close_listener, self._hurry)
        data.force_exit = True

    async def _close(self, loops: Supervisor) -> None:
        """Close what holds something: what is left to save first, then what is left to tell."""
        await closed(loops.close(), "background loops", self._hurry)
        self.control.outlier_detector.detect()
        self.data.mirroring.close()
        if self.control.fleet_quotas is not None:
            self.control.fleet_quotas.close()
        await closed(self.control.flusher.close(), "the state", self._hurry)
        self.data.registry.close()
        if self.data.access_log is not None:
            await closed(in_thread(self.data.access_log.close, "close"), "the access log", self._hurry)
        told = [] if self.data.traces is None else [in_thread(self.data.traces.close, "close")]
        if self.data.exporter is not None:
            told.append(self.data.exporter.finish())
        await asyncio.gather(*(closed(each, "the OTLP collector", self._hurry) for each in told))

    def _watched(self) -> tuple[Watched, ...]:
        return (*self.files.watched,) if self._is_worker else (self.control.reloader, *self.files.watched)

    def _epoch(self) -> float:
        """Return seconds since the epoch, of a clock that never jumps."""
        return self._clock() + self._started


def _handle_signals(stop: Callable[[], None], reload: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Stop on SIGTERM and SIGINT, reload on SIGHUP; what would kill by default and means nothing here is logged."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    reloads: set[asyncio.Task[None]] = set()

    def reload_soon() -> None:
        task = loop.create_task(reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in NOT_THE_END:
        loop.add_signal_handler(number, partial(_log.info, "signal ignored", extra={"signal": number.name}))
    loop.add_signal_handler(signal.SIGHUP, reload_soon)
    release()
