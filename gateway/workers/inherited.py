"""What a worker gets from the supervisor that starts it: open descriptors, by their numbers in a variable."""

import socket
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass

import msgspec

from gateway.workers.descriptors import keep

VARIABLE = "TIDEGATE_INHERITED"


@dataclass(frozen=True, slots=True)
class Inherited:
    """`channel` leads to the supervisor, `sockets` are those of clients; `lasting` ones outlive this gateway.

    `admin` is the path at which the worker answers the supervisor. `state` is where the counts of all workers are;
    `table` names the table that they share and the worker's row in it, "" where there is none.
    """

    channel: int
    sockets: tuple[int, ...]
    admin: str
    state: str
    lasting: bool = False
    table: str = ""

    def variable(self) -> str:
        """Return what the worker's environment has to say."""
        return msgspec.json.encode(asdict(self)).decode()

    def listening(self) -> list[socket.socket]:
        """Return the sockets of clients."""
        return [socket.socket(fileno=each) for each in self.sockets]


def inherited(environ: MutableMapping[str, str]) -> Inherited | None:
    """Return what this process got, None where it is no worker; what it starts itself inherits nothing of that."""
    found = environ.pop(VARIABLE, None)
    if found is None:
        return None
    own = msgspec.json.decode(found.encode(), type=Inherited)
    for each in (own.channel, *own.sockets):
        keep(each)
    return own
