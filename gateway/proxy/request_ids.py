"""The names of requests: what a client calls one, else one made here; no engine works on two of one name."""

import secrets
from typing import Final

MAX_ID: Final = 128
_SANE: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


class RequestIds:
    """Makes ids, and knows those of clients that are on their way: engines reject, or mix up, requests of one id."""

    __slots__ = ("_count", "_in_flight", "_prefix")

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(5)
        self._count = 0
        self._in_flight: set[str] = set()

    def __len__(self) -> int:
        return len(self._in_flight)

    def of(self, given: bytes | None) -> str:
        """Return the client's id when it is sane, else a new one."""
        if given is not None and (known := sane(given)) is not None:
            return known
        self._count += 1
        return f"{self._prefix}-{self._count}"

    def take(self, wanted: str) -> str:
        """Return the id to send to an engine: the client's, with a number behind it while that one is in use."""
        taken, number = wanted, 1
        while taken in self._in_flight:
            number += 1
            taken = f"{wanted}-{number}"
        self._in_flight.add(taken)
        return taken

    def give_back(self, taken: str) -> None:
        """Forget an id that was taken."""
        self._in_flight.discard(taken)


def sane(given: bytes | None) -> str | None:
    """Return an id of at most 128 letters, digits, dots, hyphens and underscores as text, None for any other."""
    return given.decode("ascii") if given and len(given) <= MAX_ID and _SANE.issuperset(given) else None
