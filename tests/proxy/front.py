"""The front of the data plane without sockets: requests go in, a test plays the engines, and reads what clients get."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from gateway.backends.backend import Backend
from gateway.exchange import AttemptEnd, Exchange
from gateway.observers import Observer, Observers
from gateway.policy.routing import readiness
from gateway.proxy.gateway import Gateway
from gateway.proxy.mirroring import Mirroring
from gateway.proxy.routed_request import ProxyContext
from gateway.proxy.stored import StoredResponses
from gateway.wire.edge import Edge
from gateway.wire.guard import Limits, check
from gateway.wire.heads import Headers
from gateway.wire.service import Request, Responder
from gateway.wire.slices import Slices
from tests.control.tables import in_force, put_in_force, registered, written
from tests.proxy.clients import Page
from tests.proxy.scripted_loop import EngineSide, ScriptedLoop

CHAT = "/v1/chat/completions"


def whole(status: int, body: object, *fields: str) -> bytes:
    """Return a whole answer of an engine, in JSON."""
    data = json.dumps(body).encode()
    head = (f"HTTP/1.1 {status} x", "content-type: application/json", *fields, f"content-length: {len(data)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + data


ANSWER = whole(200, {"model": "m", "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]})


class Notes(Observer):
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.settled: list[Exchange] = []
        self.ends: list[AttemptEnd] = []

    def on_attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        self.ends.append(end)

    def on_settled(self, exchange: Exchange) -> None:
        self.settled.append(exchange)


class Asked:
    """A request that was made: its client, and what works on it, None where it was answered at once."""

    def __init__(self, front: "Front", page: Page, responder: Responder | None) -> None:
        self.page = page
        self.responder = responder
        self._front = front

    def does(self, what: str, *said: object) -> None:
        """Let something happen to the request in progress: `pause`, `check`, `client_gone`, ..."""
        assert self.responder is not None
        self._front.loop.do(getattr(self.responder, what), *said)

    @property
    def status(self) -> int:
        """The status of the answer, 0 where nothing came."""
        return int(self.page.out.split(b" ")[1]) if self.page.out else 0

    @property
    def body(self) -> Any:
        """The body of an answer in JSON."""
        return json.loads(self.page.out.partition(b"\r\n\r\n")[2])


class Front:
    """A gateway with the engines of some routes, all of them ready."""

    def __init__(self, folder: Path, routes: dict[str, Any], edge: Edge | None = None) -> None:
        self._file = folder / "routes.yaml"
        table = written(self._file, routes)
        self.loop = ScriptedLoop()
        clock = self.loop.time
        self.registry = registered(table, clock)
        self.are_ready()
        self.notes, self.copies = Notes(), list[Exchange]()
        self.rng = Random(1)
        context = ProxyContext(clock, self.rng, Observers(self.notes))
        self.current = in_force(table, self.registry, clock)
        self.stored, self.mirroring = StoredResponses(), Mirroring(context, self.copies.append)
        self.gateway = Gateway(
            self.current, context, self.mirroring, Slices(clock), stored=self.stored, edge=edge or Edge()
        )

    def are_ready(self) -> None:
        """Let every engine pass its probe."""
        for backend in self.registry:
            backend.learn(readiness.probe_passed(backend.readiness))

    def reload(self, routes: dict[str, Any]) -> None:
        """Put other routes in force."""
        table = written(self._file, routes)
        self.registry.reconcile(table)
        self.are_ready()
        self.loop.do(lambda: put_in_force(self.current, self.registry, table))

    def asks(
        self, path: str = CHAT, *fields: tuple[str, str], method: str = "POST", raw: bytes | None = None, **body: Any
    ) -> Asked:
        """Let a client ask for a chat of the model `m`, with these fields in its head and these in its body."""
        if raw is None:
            raw = json.dumps({"model": "m", "messages": [], **body}).encode() if method == "POST" else b""
        head: Headers = [(b"host", b"gateway")]
        if method == "POST":
            head += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(raw))]
        head += [(name.encode(), value.encode()) for name, value in fields]
        checked = check(method.encode(), path.encode(), "1.1", head, Limits())
        caller, page = self.gateway.authorize(checked), Page()
        request = Request(checked, head, raw, keep_alive=True, received=self.loop.now, caller=caller)
        made = Asked(self, page, None)

        def serve() -> None:
            made.responder = self.gateway.serve(request, page)

        self.loop.do(serve)
        return made

    def passes(self, seconds: float, *asked: Asked) -> None:
        """Let time pass, and look at the deadlines of these requests."""
        self.loop.now += seconds
        for each in asked:
            each.does("check", self.loop.now)
        self.loop.do(lambda: None)

    def connects(self, error: OSError | None = None) -> list[EngineSide]:
        """Let every connection be made that is waited for, or fail; return the engines' ends of those at work."""
        for dial in [dial for dial in self.loop.dials if not dial.done()]:
            self.loop.do(dial.set_result, error)
        return self.busy

    @property
    def busy(self) -> list[EngineSide]:
        """The engines' ends of the connections that carry a request."""
        return [side for side in self.loop.connections if not side.closed and side.protocol.busy]

    def says(self, data: bytes, side: EngineSide | None = None) -> None:
        """Let an engine say something: the one that is at work, or this one."""
        if side is None:
            (side,) = self.busy
        self.loop.do(side.protocol.data_received, data)

    def answers(self, data: bytes = ANSWER) -> None:
        """Let connections be made, and every engine that is at work say the same."""
        for side in self.connects():
            self.says(data, side)

    def close(self) -> None:
        """End the loop."""
        self.loop.close()


Opened = Callable[..., Front]
"""Opens a front for some routes, which is closed when the test ends."""
