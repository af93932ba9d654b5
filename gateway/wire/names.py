"""Looking up an engine's name: never on threads that other names wait for, and never worse than a moment ago."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from threading import Thread
from typing import Final

from gateway.clock import Clock

FRESH: Final = 30.0
"""Seconds after which addresses are looked up again, in the background."""
AGAIN: Final = 5.0
"""Seconds until a name is looked up again that could not be."""
_REMEMBERED: Final = 256

Lookup = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a name, in the order to try them; may block; raises OSError."""


class Name:
    """A name and its addresses.

    Every look has a thread of its own, and there is at most one for each name: a resolver that is silent about one name
    holds up no other. Addresses that were found stay until others are found, whatever a later look says; `left` are
    those that it had once and has no more.
    """

    __slots__ = ("_clock", "_found_at", "_look", "_looked_at", "_lookup", "_port", "addresses", "host", "left")

    def __init__(self, host: str, port: int, clock: Clock, lookup: Lookup | None = None) -> None:
        self.host = host
        self._port = port
        self._clock = clock
        self._lookup = lookup or look_up
        self._look: asyncio.Future[Sequence[str]] | None = None
        self._found_at = self._looked_at = float("-inf")
        self.addresses: tuple[str, ...] = ()
        self.left: frozenset[str] = frozenset()
        if _is_address(host):
            self.addresses, self._found_at = (host,), float("inf")

    def __repr__(self) -> str:
        return f"<Name {self.host}: {', '.join(self.addresses) or 'not found yet'}>"

    async def find(self) -> tuple[str, ...]:
        """Return the addresses that were found last, at least one, or find them first; raises OSError."""
        if self.addresses:
            self.renew()
        else:
            await asyncio.shield(self.look())
        return self.addresses

    def renew(self) -> None:
        """Have another look in the background when the addresses are old."""
        if self._is_due:
            self.look()

    @property
    def is_looking(self) -> bool:
        """Whether the resolver has been asked and has not answered."""
        return self._look is not None

    @property
    def _is_due(self) -> bool:
        now = self._clock()
        return now - self._found_at >= FRESH and now - self._looked_at >= AGAIN

    def look(self) -> "asyncio.Future[Sequence[str]]":
        """Begin to look, unless that is going on; the future fails with OSError."""
        if self._look is None:
            loop = asyncio.get_running_loop()
            self._look = loop.create_future()
            look = self._look
            try:
                Thread(target=self._run, args=(loop, look), name=f"lookup {self.host}", daemon=True).start()
            except RuntimeError as failure:
                loop.call_soon(self._learn, look, (), OSError(f"no thread to look up {self.host}: {failure}"))
        return self._look

    def _run(self, loop: asyncio.AbstractEventLoop, look: "asyncio.Future[Sequence[str]]") -> None:
        """Ask the resolver, on a thread of its own."""
        found: Sequence[str] = ()
        error: OSError | None = None
        try:
            found = self._lookup(self.host, self._port)
        except OSError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001 - such as a name that IDNA does not know
            error = OSError(f"{self.host} cannot be looked up: {failure}")
        with suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(self._learn, look, found, error)

    def _learn(self, look: "asyncio.Future[Sequence[str]]", found: Sequence[str], error: OSError | None) -> None:
        """Take the answer before anyone hears of it: a look that has ended is never one that has found nothing yet."""
        self._look, self._looked_at = None, self._clock()
        if found:
            before = self.left if len(self.left) < _REMEMBERED else frozenset()
            self.left = (before | set(self.addresses)) - set(found)
            self.addresses, self._found_at = tuple(found), self._looked_at
        if look.cancelled():
            return
        if found:
            look.set_result(found)
        else:
            look.set_exception(error or OSError(f"no address for {self.host}"))
            look.exception()  # no caller waits for a look in the background


def look_up(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
