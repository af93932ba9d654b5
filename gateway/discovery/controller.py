"""Backends that are found: what sources publish becomes routes in force, by the way that a reload takes."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection

from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.config.origins import Origin
from gateway.config.table import Discovery as Found
from gateway.config.table import RouteTable
from gateway.discovery.expanding import expanded, is_chosen, origins_of
from gateway.discovery.membership import Membership
from gateway.discovery.target import Source, Target, TargetState
from gateway.telemetry.discovery_exposition import DiscoveryRow

_log = logging.getLogger(__name__)
QUIET = 0.1
"""Seconds that changes are gathered for before they are put in force."""
SHARE = 0.1
"""How much of the time may be spent on that, where there are changes all the time."""
LONGEST_QUIET = 5.0
LOOK_EVERY = 1.0
FIRST_ANSWER = 5.0
"""Seconds that a reload waits for the first answer of an origin that it names anew."""
PAUSE = 1.0


class _Asked:
    """One origin that is asked, by a source in a task of its own."""

    def __init__(self, origin: Origin, source: Source) -> None:
        self.origin = origin
        self.source = source
        self.members = Membership()
        self.published: Collection[Target] | None = None
        self.answered = asyncio.Event()
        self.problem = ""
        self.logged = ""
        self.crashes = 0
        self.task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Ask no more."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()

    @property
    def words(self) -> str:
        """What is wrong with the origin, "" while all is well."""
        return self.problem or self.source.problem

    def log(self) -> None:
        """Log what is wrong now, once, and that it is over."""
        words, before = self.words, self.logged
        self.logged = words
        if words and words != before:
            _log.warning("backends cannot be looked up", extra={"origin": str(self.origin), "reason": words})
        elif before and not words:
            _log.info("backends can be looked up again", extra={"origin": str(self.origin)})


class Discovery:
    """Asks the origins that the routes name, and has the routes put in force with what they tell.

    A backend that its origin names no more gets no new requests; it leaves the routes when it has none in progress. An
    origin that is silent changes nothing.
    """

    def __init__(
        self,
        routes: RouteTable,
        registry: Registry,
        make: Callable[[Origin], Source],
        put_in_force: Callable[[RouteTable], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._routes = routes
        self._registry = registry
        self._make = make
        self._put_in_force = put_in_force
        self._clock = clock
        self._asked: dict[Origin, _Asked] = {}
        self._turn = asyncio.Lock()
        self._woken = asyncio.Event()
        self._has_changed = False
        self._quiet = QUIET
        self._is_running = False

    def __repr__(self) -> str:
        return f"<Discovery of {len(self._asked)} origins>"

    async def run(self) -> None:
        """Ask until cancelled."""
        self._is_running = True
        self._ask(self._routes)
        try:
            while True:
                await self._look()
        finally:
            self._is_running = False
            for asked in self._asked.values():  # what they told stays: this may begin again
                asked.stop()

    async def reloaded(self, routes: RouteTable, put_in_force: Callable[[RouteTable], Awaitable[None]]) -> None:
        """Have other routes put in force, with what is known of their backends; new origins are waited for a little."""
        self._ask(routes)
        origins = origins_of(routes)
        if self._is_running:
            await _answered([self._asked[origin] for origin in origins])
        async with self._turn:
            self._routes = routes
            for origin in self._asked.keys() - origins.keys():
                self._asked.pop(origin).stop()
            self._has_changed = False
            await put_in_force(self._expanded())
            self._note()
        if self._asked:
            self._woken.set()

    def rows(self) -> list[DiscoveryRow]:
        """Return every origin as it is shown."""
        now = self._clock()
        return [
            _shown(str(origin), tuple(pools), self._asked.get(origin), now)
            for origin, pools in origins_of(self._routes).items()
        ]

    async def _look(self) -> None:
        """Wait for changes, or for the time to look whether something that is gone may be forgotten."""
        try:
            async with asyncio.timeout(LOOK_EVERY if self._asked else None):
                await self._woken.wait()
        except TimeoutError:
            pass
        else:
            self._woken.clear()
            await asyncio.sleep(self._quiet)
        async with self._turn:
            busy, now = self._busy(), self._clock()
            for asked in self._asked.values():
                asked.log()
                self._has_changed |= asked.members.forget(busy, now)
            if self._has_changed:
                self._has_changed = False
                try:
                    await self._put_in_force(self._expanded())
                except BaseException:
                    self._has_changed = True
                    raise
                self._quiet = min(max(QUIET, (self._clock() - now) / SHARE), LONGEST_QUIET)
            self._note()

    def _ask(self, routes: RouteTable) -> None:
        for origin in origins_of(routes):
            if origin not in self._asked:
                self._asked[origin] = _Asked(origin, self._make(origin))
            asked = self._asked[origin]
            if asked.task is None and self._is_running:
                asked.task = asyncio.create_task(self._keep(asked), name=f"discovery {origin}")

    async def _keep(self, asked: _Asked) -> None:
        """Have a source ask; one that breaks begins again."""
        while True:
            try:
                await asked.source.run(lambda targets: self._publish(asked, targets))
            except Exception as error:  # noqa: BLE001 - a source that fails is logged and starts again
                asked.problem, asked.crashes = f"the source failed: {error}", asked.crashes + 1
                _log.exception("a source failed and starts again", extra={"origin": str(asked.origin)})
            await asyncio.sleep(PAUSE)

    def _publish(self, asked: _Asked, targets: Collection[Target]) -> None:
        now, asked.problem = self._clock(), ""
        if targets is asked.published or targets == asked.published:
            asked.members.confirmed_at = now
            return
        is_first, asked.published = asked.published is None, targets
        if asked.members.take(targets, now) or is_first:
            _log.info("targets found", extra={"origin": str(asked.origin), "targets": len(asked.members.targets)})
            self._has_changed = True
            self._woken.set()
        asked.answered.set()

    def _expanded(self) -> RouteTable:
        return expanded(self._routes, self._targets)

    def _targets(self, origin: Origin) -> list[Target]:
        asked = self._asked.get(origin)
        return [] if asked is None else asked.members.targets + asked.members.gone

    def _busy(self) -> set[str]:
        """Return the keys of backends that are about to go, and have requests in progress."""
        return {each.spec.key for each in self._registry if each.leaving and each.in_flight}

    def _note(self) -> None:
        """Say of pools that wait for an origin which it is, and what is wrong with it."""
        for pool in self._routes.pools.values():
            if pool.discovered:
                state = self._registry.pools.get(pool.name)
                if state is not None:
                    state.discovery = "; ".join(map(self._words, pool.discovered))

    def _words(self, found: Found) -> str:
        origin = found.origin
        asked = self._asked.get(origin)
        if asked is None or asked.published is None:
            problem = asked.words if asked is not None else ""
            return f"{origin} has not told of any backend yet{f' ({problem})' if problem else ''}"
        targets = asked.members.targets
        chosen = sum(is_chosen(found, each) for each in targets)
        words = f"{origin} tells of {len(targets) or 'no'} backend{'s' * (len(targets) != 1)}"
        if chosen == len(targets):
            return words
        labels = ", ".join(f"{name}={value}" for name, value in found.where)
        return f"{words}, {chosen or 'none'} of them with {labels}"


async def _answered(asked: Collection[_Asked]) -> None:
    """Wait until each has answered, but not for long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FIRST_ANSWER):
            for each in asked:
                await each.answered.wait()


def _shown(origin: str, pools: tuple[str, ...], asked: _Asked | None, now: float) -> DiscoveryRow:
    if asked is None:
        return DiscoveryRow(origin, pools, 0, 0, None, "", 0)
    targets, confirmed = asked.members.targets, asked.members.confirmed_at
    leaving = sum(each.state is TargetState.DRAINING for each in targets)
    return DiscoveryRow(
        origin,
        pools,
        targets=len(targets) - leaving,
        leaving=leaving + len(asked.members.gone),
        age=None if confirmed is None else max(0.0, now - confirmed),
        problem=asked.words,
        errors=asked.source.errors + asked.crashes,
    )
