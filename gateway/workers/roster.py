"""The workers of this machine: as many as there should be, each place taken again when its worker ends."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from gateway.workers.channel import Message
from gateway.workers.process import Stage, WorkerProcess

_log = logging.getLogger(__name__)
READY_SECONDS = 60.0
"""How long a worker may take to start."""
_SHORT_LIFE, _PAUSE, _LONGEST_PAUSE = 10.0, 0.5, 10.0
"""A worker that ends so soon is not started again at once, but after a pause that doubles."""
_TURN = 0.01
_FAILURES = 3
"""So many starts in a row that fail end a gateway that has never served."""


def shares(sockets: int, serving: Collection[int], places: int) -> dict[int, frozenset[int]]:
    """Return from which sockets the worker in each place accepts.

    Each socket has a worker: that in its own place, if there is one. Each worker has a socket.
    """
    order = sorted(serving)
    found = {place: {place % sockets} for place in order}
    for each in range(sockets):
        owner = each % places
        found[owner if owner in found else order[each % len(order)]].add(each)
    return {place: frozenset(share) for place, share in found.items()}


class Roster:
    """Keeps the workers of the current generation alive, and has those before it leave.

    `start` starts a worker, `greeting` is its first message, and `over` is told of each that has ended. `failure` says
    why a gateway that has never been complete never will be.
    """

    def __init__(
        self,
        places: int,
        sockets: int,
        start: Callable[[int, int], WorkerProcess],
        greeting: Callable[[], tuple[Message, bytes]],
        over: Callable[[WorkerProcess], None],
    ) -> None:
        self.generation = 1
        self.workers: list[WorkerProcess] = []
        self.restarts = 0
        self.failure = ""
        self._places, self._sockets = places, sockets
        self._start, self._greeting, self._over = start, greeting, over
        self._in_place: dict[int, WorkerProcess] = {}
        self._failures: Counter[int] = Counter()
        self._has_been_complete = self._stopping = False
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Roster of {self.workers}>"

    @property
    def is_complete(self) -> bool:
        """Whether each place has a worker that serves."""
        return sum(each.stage is Stage.SERVING for each in self._in_place.values()) == self._places

    @property
    def leader(self) -> WorkerProcess | None:
        """The worker that leads, else any that answers; None while there is none."""
        answering = [each for each in self.workers if each.stage is not Stage.STARTING]
        ranked = sorted(answering, key=lambda each: (not each.leads, each.stage is not Stage.SERVING, each.since))
        return ranked[0] if ranked else None

    def fill(self) -> None:
        """Start a worker in each place that has none."""
        for place in range(self._places):
            if place not in self._in_place:
                self._fill(place)
        self._divide()

    def adopt(self, generation: int, workers: Iterable[WorkerProcess]) -> None:
        """Go on with workers that were started before: those of this generation take their places."""
        self.generation, self._has_been_complete = generation, True
        for worker in workers:
            self._follow(worker)
            if worker.generation == generation and worker.place < self._places:
                self._in_place[worker.place] = worker

    async def prepare(self, generation: int) -> str:
        """Start workers of another generation; return why they do not become ready, "" when they are."""
        try:
            begun = [self._begin(generation, place) for place in range(self._places)]
        except OSError as error:
            return f"no worker can be started: {error}"

        def ended() -> list[WorkerProcess]:
            return [each for each in begun if each not in self.workers]

        def ready() -> bool:
            return all(each.stage is Stage.READY for each in begun)

        await self.until(lambda: bool(ended()) or ready(), READY_SECONDS)
        if gone := ended():
            return f"worker {gone[0].pid} of the new generation ended before it was ready"
        return "" if ready() else f"the new generation was not ready in {READY_SECONDS:g} s"

    async def drop(self, generation: int) -> None:
        """End the workers of a generation, which has not served."""
        for each in self.workers:
            if each.generation == generation:
                each.kill()
        await self.until(lambda: all(each.generation != generation for each in self.workers), READY_SECONDS)

    def tell(self, message: Message, data: bytes = b"") -> None:
        """Send all workers a message, those that leave apart."""
        for each in self.workers:
            if each.stage is not Stage.RETIRING:
                each.send(message, data)

    def stop(self) -> None:
        """Have all workers drain and end; at a second call, end at once."""
        self._stopping = True
        self._changed.set()
        for each in self.workers:
            if each.stage is Stage.STARTING:
                each.kill()
            else:
                each.send({"do": "stop"})

    async def until(self, holds: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until something holds, which only what workers say or do changes; return whether it does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        return holds()

    async def quiet(self) -> None:
        """Wait until no message is on its way in this process."""
        while not all(each.channel is None or each.channel.is_quiet for each in self.workers):  # noqa: ASYNC110
            await asyncio.sleep(_TURN)

    async def empty(self) -> None:
        """Wait until no worker is left."""
        await self.until(lambda: not self.workers)

    def _fill(self, place: int) -> None:
        if self._stopping or place in self._in_place:
            return
        try:
            self._in_place[place] = self._begin(self.generation, place)
        except OSError as error:
            _log.error("no worker can be started", extra={"place": place, "reason": str(error)})
            asyncio.get_running_loop().call_later(_LONGEST_PAUSE, self._fill, place)

    def _begin(self, generation: int, place: int) -> WorkerProcess:
        worker = self._start(generation, place)
        message, data = self._greeting()
        worker.routes = message["number"]
        worker.send(message, data)
        self._follow(worker)
        asyncio.get_running_loop().call_later(READY_SECONDS, self._give_up, worker)
        return worker

    def _follow(self, worker: WorkerProcess) -> None:
        self.workers.append(worker)
        task = asyncio.get_running_loop().create_task(worker.connect(self._told, self._ended))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _give_up(self, worker: WorkerProcess) -> None:
        if worker in self.workers and worker.stage is Stage.STARTING:
            _log.error("a worker was not ready in time", extra={"worker": worker.pid, "seconds": READY_SECONDS})
            worker.kill()

    def _told(self, worker: WorkerProcess, message: Message, data: bytes) -> None:
        match message["is"]:
            case "ready":
                worker.stage = Stage.READY
            case "accepting":
                worker.accepts = frozenset(message["sockets"])
                if worker.stage is Stage.READY:
                    worker.stage = Stage.SERVING
                    _log.info("worker serves", extra={"worker": worker.pid, "generation": worker.generation})
            case "routed":
                worker.routes, worker.problem = message["number"], message["problem"]
            case "leading" | "following" as role:
                worker.leads = role == "leading"
            case "wanting":
                worker.wanting = frozenset(message["pools"])
            case "counted" | "drained":
                worker.last = data
            case "leaving":
                self._vacate(worker)
        self._divide()
        self._pass_on_wants()
        self._changed.set()

    def _pass_on_wants(self) -> None:
        """Have one worker wake engines for all of them: the leader, and no other any more."""
        leader = self.leader
        wanting = frozenset(pool for each in self.workers for pool in each.wanting)
        for each in self.workers:
            pools = wanting if each is leader else frozenset()
            if each.wakes != pools:
                each.wakes = pools
                each.send({"do": "wake", "pools": sorted(pools)})

    def _ended(self, worker: WorkerProcess, status: int) -> None:
        self.workers.remove(worker)
        self._over(worker)
        is_wanted = self._in_place.get(worker.place) is worker
        level = logging.WARNING if is_wanted and not self._stopping else logging.INFO
        _log.log(level, "worker ended", extra={"worker": worker.pid, "status": status, "stage": worker.stage})
        if is_wanted:
            self._vacate(worker)
        self._divide()
        self._pass_on_wants()
        self._changed.set()

    def _vacate(self, worker: WorkerProcess) -> None:
        """Have another worker start in the place of one that is gone or about to go."""
        place = worker.place
        if self._in_place.get(place) is not worker:
            return
        del self._in_place[place]
        if self._stopping:
            return
        self.restarts += 1
        if time.monotonic() - worker.began >= _SHORT_LIFE:
            self._failures[place] = 0
        failures = self._failures[place]
        self._failures[place] += 1
        if worker.stage is Stage.STARTING and not self._has_been_complete and self._failures[place] >= _FAILURES:
            self.failure = f"worker {worker.pid} ended before it was ready, as did those before it"
            return
        pause = min(_LONGEST_PAUSE, _PAUSE * 2 ** min(failures - 1, 10)) if failures else 0.0
        asyncio.get_running_loop().call_later(pause, self._fill, place)

    def _divide(self) -> None:
        """Divide the sockets among those who serve; who loses one does so once its next owner accepts."""
        serving = {place: each for place, each in self._in_place.items() if each.stage is not Stage.STARTING}
        if not serving or self._stopping:
            return
        wanted = shares(self._sockets, serving.keys(), self._places)
        covered = all(wanted[place] <= each.accepts for place, each in serving.items())
        for place, each in serving.items():
            order = wanted[place] if covered else wanted[place] | each.accepts
            if order != each.ordered:
                each.ordered = order
                each.send({"do": "accept", "sockets": sorted(order)})
        self._has_been_complete = self._has_been_complete or self.is_complete
        if covered:
            self._retire()

    def _retire(self) -> None:
        """Have those leave whose place another has taken."""
        for each in self.workers:
            is_old = each.generation <= self.generation and self._in_place.get(each.place) is not each
            if is_old and each.stage in {Stage.READY, Stage.SERVING}:
                each.stage = Stage.RETIRING
                each.send({"do": "retire"})
