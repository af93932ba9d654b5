"""Reads what the gateway says of itself, twice a second."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

import httpx

from gateway.cli.demo.exposition import parse
from gateway.cli.demo.figures import Figures, compare
from gateway.cli.demo.moment import Moment, moment
from gateway.cli.demo.rollout import STATUS
from gateway.processes.child import ProcessDied

READ_EVERY = 0.5
_LOOK_BACK = 30.0


class Watch:
    """What the gateway said lately, and at first; with `rollout` it is asked for its rollout too."""

    def __init__(self, admin: httpx.AsyncClient, *, rollout: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._admin = admin
        self._clock = clock
        self._rollout = rollout
        self._first: Moment | None = None
        self._recent: deque[Moment] = deque(maxlen=int(_LOOK_BACK / READ_EVERY) + 1)
        self._fresh = asyncio.Event()

    @property
    def now(self) -> Moment:
        """The latest moment; there is one once `read` has returned."""
        return self._recent[-1]

    @property
    def elapsed(self) -> float:
        """Seconds from the first moment to the latest."""
        return 0.0 if self._first is None else self.now.at - self._first.at

    async def read(self) -> None:
        """Ask the gateway once. Raises ProcessDied when it does not answer."""
        try:
            text = (await self._admin.get("/metrics")).raise_for_status().text
            rollout = (await self._admin.get(STATUS)).raise_for_status().json() if self._rollout else {}
        except httpx.HTTPError as error:
            # Let the end of the gateway be told as such, if it is one.
            await asyncio.sleep(1)
            raise ProcessDied(f"the gateway's metrics cannot be read: {error!r}") from None
        self._recent.append(moment(parse(text), self._clock(), rollout))
        self._first = self._first or self.now
        self._fresh.set()
        self._fresh = asyncio.Event()

    async def next(self) -> Moment:
        """Wait until the gateway was read again."""
        await self._fresh.wait()
        return self.now

    def lately(self) -> Figures:
        """Return the figures of the last half minute."""
        return compare(self.now.reading, self._recent[0].reading)

    def whole(self) -> Figures | None:
        """Return the figures since the first moment, None if there is none."""
        return None if self._first is None else compare(self.now.reading, self._first.reading)
