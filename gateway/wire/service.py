"""The seam between a client's connection and what answers: what each offers to the other."""

from typing import Protocol

from gateway.errors import GatewayError
from gateway.marks import mypyc_attr
from gateway.wire.guard import Head
from gateway.wire.heads import Headers
from gateway.wire.rope import Rope


@mypyc_attr(allow_interpreted_subclasses=True)
class Writer:
    """A client's connection, as the answering side sees it.

    A base class, not a protocol: where both sides are compiled, a protocol's method takes twice as long to call.
    """

    __slots__ = ()

    @property
    def keep_alive(self) -> bool:
        """Whether the connection outlives the answer in progress; an answer's head has to say so if not."""
        raise NotImplementedError

    @property
    def peer(self) -> str:
        """The address of the client, "" where it has none."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Write a piece of the answer in progress."""
        raise NotImplementedError

    def reply(self, status: int, head: bytes, body: bytes) -> None:
        """Write a whole answer; `head` are fields, each line ended. `finish` has to follow."""
        raise NotImplementedError

    def reply_json(self, status: int, head: bytes, value: object) -> None:
        """Write a whole answer in JSON. `finish` has to follow."""
        raise NotImplementedError

    def finish(self) -> None:
        """End the answer in progress."""
        raise NotImplementedError

    def break_off(self) -> None:
        """End an answer that cannot be completed: what is written goes out, no proper end follows."""
        raise NotImplementedError


class Request:
    """A request that passed the guard, complete with its body.

    A long body is a rope. `received` is when the connection took it whole, `caller` is what `authorize` returned.
    """

    __slots__ = ("body", "caller", "head", "headers", "keep_alive", "received")

    def __init__(
        self,
        head: Head,
        headers: Headers,
        body: bytes | Rope,
        *,
        keep_alive: bool,
        received: float,
        caller: object = None,
    ) -> None:
        self.head = head
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive
        self.received = received
        self.caller = caller

    @property
    def http10(self) -> bool:
        """Whether it came in HTTP/1.0."""
        return self.head.http10


class Refusal:
    """What did not pass: why, and as much of its head as had come."""

    __slots__ = ("error", "headers", "target")

    def __init__(self, error: GatewayError, target: bytes, headers: Headers) -> None:
        self.error = error
        self.target = target
        self.headers = headers


class Responder(Protocol):
    """A request in progress, as its connection sees it."""

    def client_gone(self) -> None:
        """Learn that the client is gone."""

    def pause(self) -> None:
        """Stop producing: the client reads too slowly."""

    def resume(self) -> None:
        """Go on producing."""

    def check(self, now: float) -> None:
        """Hold deadlines; called about ten times a second."""

    def probe(self) -> bytes | None:
        """Return bytes that mean nothing at this point of the answer, None where the protocol has no such bytes."""

    def give_up(self, error: GatewayError) -> None:
        """End at once, telling the client why."""


class Service(Protocol):
    """What answers. Requests are answered at once or by a responder.

    `draining` says that the process is about to stop: clients are told to go elsewhere with their next request. Those
    that were not told have `last_call` seconds to send one more.
    """

    draining: bool
    last_call: float

    def authorize(self, head: Head) -> object:
        """Return who is calling, before any of the body is taken; raises a GatewayError for a client that may not."""

    def serve(self, request: Request, client: Writer) -> Responder | None:
        """Take a request."""

    def refuse(self, error: GatewayError, target: bytes, headers: Headers, received: float, client: Writer) -> None:
        """Answer what did not pass the guard."""
