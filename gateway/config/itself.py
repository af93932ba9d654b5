"""Backends that are the gateway itself: what is sent there comes back."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from gateway.config.addresses import is_loopback, parse_address
from gateway.config.consistency import Declared
from gateway.config.problems import InvalidValueError, Problem

_ANY = frozenset(("0.0.0.0", "::"))  # noqa: S104 - compared with, not bound


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a listener of this gateway accepts connections; port 0 is any free one, so no backend is there."""

    host: str
    port: int


def find_itself(owners: Iterable[Declared], listeners: Collection[Listening]) -> list[Problem]:
    """Return a problem for each backend that is one of the gateway's own listeners.

    Names other than `localhost` are not resolved: what cannot be seen here is found by the first probe.
    """
    problems = []
    for owner in owners:
        for path, backend in owner.items("backends"):
            try:
                address = parse_address(backend.get("url") if isinstance(backend, dict) else backend)
            except InvalidValueError:
                continue
            if any(address.port == own.port and _reaches(address.host, own.host) for own in listeners):
                message = f"{address.host}:{address.port} is where this gateway itself listens: requests would loop"
                hint = "name the engine's own port, or make the gateway listen elsewhere: `--port`, `--admin-port`"
                problems.append(owner.document.problem(path, message, hint))
    return problems


def _reaches(host: str, own: str) -> bool:
    """Whether a connection to `host` arrives at a listener bound to `own`, as far as names show."""
    if host == own:
        return True
    return _is_loopback(host) and (own in _ANY or (_is_loopback(own) and "localhost" in {host, own}))


def _is_loopback(host: str) -> bool:
    return host in _ANY or is_loopback(host)
