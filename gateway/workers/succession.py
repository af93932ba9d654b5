"""What a supervisor hands on to the program that takes its place in the same process, in a file without a name."""

import os
import socket
import sys
from collections.abc import MutableMapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import msgspec

from gateway.listeners import Sockets
from gateway.workers.descriptors import hand_on, keep

VARIABLE = "TIDEGATE_SUCCESSION"


@dataclass(frozen=True, slots=True)
class Succession:
    """Descriptors by their numbers, and plain values that another version of the code understands.

    `generation` is that which takes over. `routes` are the last good ones, as workers get them. `table`
    is the table that they share.
    """

    generation: int
    sockets: list[int]
    admin: int
    lasting: bool
    folder: str
    state: str
    began: float
    upgrades: int
    restarts: int
    loads: int
    load_failures: int
    workers: list[dict[str, Any]]
    expositions: dict[str, Any]
    number: int
    routes: bytes
    table: int = -1

    def listening(self) -> Sockets:
        """Return the listening sockets."""
        data = tuple(socket.socket(fileno=each) for each in self.sockets)
        return Sockets(data, socket.socket(fileno=self.admin), lasting=self.lasting)


def replace_program(command: Sequence[str], succession: Succession) -> NoReturn:
    """Become another program, which has all of this; raises OSError."""
    for each in (*succession.sockets, succession.admin):
        hand_on(each)
    file = os.memfd_create("tidegate")
    with os.fdopen(os.dup(file), "wb") as stream:
        stream.write(msgspec.msgpack.encode(asdict(succession)))
    environ = {**os.environ, VARIABLE: str(hand_on(file))}
    sys.stdout.flush()
    os.execve(command[0], list(command), environ)  # noqa: S606 - ourselves


def succession(environ: MutableMapping[str, str]) -> Succession | None:
    """Return what the program before this one in the same process handed on, None where this is the first."""
    found = environ.pop(VARIABLE, None)
    if found is None:
        return None
    with os.fdopen(int(found), "rb") as stream:
        stream.seek(0)
        handed_on = msgspec.msgpack.decode(stream.read(), type=Succession, strict=False)
    for each in (*handed_on.sockets, handed_on.admin):
        keep(each)
    return handed_on
