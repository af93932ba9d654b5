"""Load on a gateway that is disturbed again and again, and what came of both."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.upgrades.gateway import Gateway
from loadtest.upgrades.load import Counts, Load, wrk

CONNECTIONS, TIMEOUT = 32, 60
SCRAPE_EVERY = 0.5
_AWAY = 0.2
"""Seconds until wrk tries again where nothing listened."""


@dataclass
class Disturbed:
    """Sends requests by wrk, on kept connections and on one for each in turn, while something goes on.

    `turns` disturbs the gateway and yields, once for each time. `scrapes` are not made where the counts begin anew.
    """

    gateway: Gateway
    folder: Path
    turns: Iterator[str]
    scraped: bool = True
    seconds: int = 20
    total: Load = field(default_factory=Load)
    counts: Counts = field(default_factory=Counts)
    windows: int = 0
    fastest: float = 0.0
    """Most requests a second in a window."""
    scrapes: int = 0
    done: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _quiet: threading.Event = field(default_factory=threading.Event)

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing more to disturb it with."""
        return self._quiet.is_set()

    def __str__(self) -> str:
        total = self.total
        answers = f"{total.requests} answered, {total.lost} lost, {total.refused} refused, {total.bad} errors"
        return f"{answers}; {', '.join(f'{times} {what}' for what, times in self.done.items()) or 'no turn yet'}"

    def play(self, enough: Callable[["Disturbed"], bool]) -> None:
        """Go on until there was enough of it, or something failed, which `errors` say."""
        works = (self._disturb, self._scrape) if self.scraped else (self._disturb,)
        threads = [threading.Thread(target=self._noting, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        try:
            for close in itertools.cycle((False, True)):
                options = {"seconds": self.seconds, "connections": CONNECTIONS, "timeout": TIMEOUT}
                load = wrk(self.folder, self.gateway.port, **options, close=close)
                self.total.add(load)
                self.windows += 1
                self.fastest = max(self.fastest, load.requests / self.seconds)
                print(self, flush=True)
                if self.errors or enough(self):
                    break
                if not load.requests:
                    time.sleep(_AWAY)
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _noting(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - of a thread, whatever it is
            self.errors.append(f"{type(error).__name__}: {error}")

    def _disturb(self) -> None:
        for what in self.turns:
            self.done[what] = self.done.get(what, 0) + 1
            if self._over.is_set():
                return
        self._quiet.set()

    def _scrape(self) -> None:
        while not self._over.wait(SCRAPE_EVERY):
            self.counts.saw(self.gateway.ask("/metrics"))
            self.scrapes += 1


def upgrades(gateway: Gateway) -> Iterator[str]:
    """Upgrade it, each time as soon as the workers of the last upgrade have left."""
    while True:
        generation = gateway.status()["generation"] + 1
        gateway.process.send_signal(signal.SIGUSR2)
        gateway.until_serving(generation)
        yield "upgrades"


def kills(gateway: Gateway, pause: float) -> Iterator[str]:
    """Kill a worker, wait, and go on when all serve."""
    while True:
        os.kill(gateway.status()["workers"][0]["pid"], signal.SIGKILL)
        yield "kills"
        time.sleep(pause)
        gateway.until_serving()


def restarts(gateway: Gateway, pause: float) -> Iterator[str]:
    """End it and start it again after a while, as was needed before there were upgrades."""
    while True:
        time.sleep(pause)
        gateway.restart()
        gateway.until_serving()
        yield "restarts"


def mixed(gateway: Gateway, killed: int, upgraded: int, pause: float) -> Iterator[str]:
    """Kill so many workers and upgrade so many times, spread evenly, and end."""
    kill, upgrade = kills(gateway, pause), upgrades(gateway)
    for number in range(upgraded):
        share = killed * (number + 1) // upgraded - killed * number // upgraded
        yield from itertools.islice(kill, share)
        gateway.until_serving()
        yield next(upgrade)
