"""Every order of events, fed to real requests: each settles once, gives everything back, and leaves spans in order.

Only the sockets are not real, the client's and the engines', and the time. What the engines send is parsed, relayed and
judged by the code that serves.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.backends.registry import Registry
from gateway.config.load import load_routes
from gateway.errors import Draining
from gateway.exchange import Exchange
from gateway.lateness import Lateness
from gateway.observers import Observer, Observers
from gateway.policy.routing import readiness
from gateway.proxy.current import CurrentTable
from gateway.proxy.gateway import Gateway
from gateway.proxy.lifecycle import State
from gateway.proxy.mirroring import Mirroring
from gateway.proxy.request_lifecycle import RequestLifecycle
from gateway.proxy.routed_request import ProxyContext
from gateway.proxy.stored import StoredResponses
from gateway.proxy.tracing import Tracing
from gateway.telemetry.request_traces import RequestTraces
from gateway.wire.edge import Edge
from gateway.wire.endpoints import FORWARDED
from gateway.wire.guard import Head
from gateway.wire.outbox import Outbox
from gateway.wire.service import Request, Writer
from gateway.wire.slices import Slices
from tests.control.tables import put_in_force
from tests.proxy.scripted_loop import EngineSide, ScriptedLoop
from tests.telemetry.reading_spans import read

PATH = "/v1/chat/completions"
MOST = 5
"""Requests in progress at once: more than there are slots and places."""


def chunked(*events: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)


def whole(status: bytes, body: bytes, more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n" % (status, more, len(body))
    return head + body


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ROLE = chunked(b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n')
TOKEN = chunked(b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n')
DONE = chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"
REFUSAL = b'{"error":{"message":"no"}}'
BEGINNINGS = {
    "stream": STREAM,
    "a stream's first event": STREAM + ROLE,
    "a stream's first token": STREAM + ROLE + TOKEN,
    "a whole stream": STREAM + ROLE + TOKEN + DONE,
    "an event that says busy": STREAM + chunked(b'data: {"error":{"message":"no","code":429}}\n\n') + b"0\r\n\r\n",
    "a document": whole(b"200 OK", b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'),
    "half a document": whole(b"200 OK", b'{"choices":[]}')[:-4],
    "too many requests": whole(b"429 Too Many Requests", REFUSAL, b"retry-after: 1\r\n"),
    "unavailable": whole(b"503 Service Unavailable", REFUSAL),
    "a server's error": whole(b"500 Internal Server Error", REFUSAL),
    "half a server's error": whole(b"500 Internal Server Error", REFUSAL)[:-4],
    "a client's error": whole(b"400 Bad Request", REFUSAL),
    "unauthorized": whole(b"401 Unauthorized", REFUSAL),
    "compressed": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
}
MORE = {
    "role": ROLE,
    "token": TOKEN,
    "tokens": TOKEN + TOKEN,
    "the end": DONE,
    "an end without its terminator": b"0\r\n\r\n",
    "an error event": chunked(b'data: {"error":{"message":"no","code":500}}\n\n'),
    "nonsense": b"\x16\x03\x01\x02\r\n\r\n",
}


class Receiver(Writer):
    """A client's end of its connection."""

    keep_alive = True
    peer = "127.0.0.1"

    def __init__(self) -> None:
        self.written = b""
        self.ends = 0

    def write(self, data: bytes) -> None:
        assert not self.ends, "nothing follows the end of an answer"
        self.written += data

    def reply(self, status: int, head: bytes, body: bytes) -> None:
        self.write(b"HTTP/1.1 %d\r\n%b\r\n%b" % (status, head, body))

    def reply_json(self, status: int, head: bytes, value: object) -> None:
        self.reply(status, head, json.dumps(value).encode())

    def finish(self) -> None:
        self.ends += 1

    break_off = finish


class Asked:
    """A request that was made."""

    def __init__(self, lifecycle: RequestLifecycle, client: Receiver) -> None:
        self.lifecycle = lifecycle
        self.client = client
        self.gone = self.reads_slowly = False


class Notes(Observer):
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.settled_ones: list[Exchange] = []
        self.ended = 0

    def on_attempt_ended(self, exchange: Exchange, *_: object) -> None:
        assert exchange.attempts[-1].result is not None
        self.ended += 1

    def on_settled(self, exchange: Exchange) -> None:
        self.settled_ones.append(exchange)


class Faults(logging.Handler):
    """Keeps what is logged as a fault of the gateway's own: steps that broke are guarded, and go on."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(f"{record.getMessage()}: {record.exc_info[1] if record.exc_info else ''}")


class Living(RuleBasedStateMachine):
    """Two engines with one slot each, and requests that wait for them, under any interleaving."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = ScriptedLoop()
        self.notes, self.faults, self.spans = Notes(), Faults(), list[bytes]()
        logging.getLogger("gateway").addHandler(self.faults)
        clock, rng = self.loop.time, Random(1)
        self.table = self.routes()
        self.registry = Registry(Outbox(), clock, Lateness())
        self.registry.reconcile(self.table)
        for backend in self.registry:
            backend.learn(readiness.probe_passed(backend.readiness))
            backend.health.slots.limit_to(1)
        traces = RequestTraces(self.spans.extend, clock, lambda: 1_790_000_000.0 + clock())
        context = ProxyContext(clock, rng, Observers(self.notes, traces), tracing=Tracing(1.0, rng))
        self.current = CurrentTable(self.table, self.registry, clock, 0)
        self.gateway = Gateway(
            self.current,
            context,
            Mirroring(context, lambda _: None),
            Slices(clock),
            stored=StoredResponses(),
            edge=Edge(),
        )
        self.asked: list[Asked] = []

    @staticmethod
    def routes() -> Any:
        engines = [{"url": f"http://127.0.0.1:{port}", "max_concurrency": 1} for port in (8001, 8002)]
        with TemporaryDirectory() as folder:
            path = Path(folder) / "routes.yaml"
            path.write_text(json.dumps({"models": {"m": {"backends": engines}}}))
            return load_routes(path, {})

    @property
    def open(self) -> list[Asked]:
        return [each for each in self.asked if each.lifecycle.state is not State.SETTLED]

    @property
    def connected(self) -> list[EngineSide]:
        return [side for side in self.loop.connections if not side.closed]

    @property
    def busy(self) -> list[EngineSide]:
        return [side for side in self.connected if side.protocol.busy]

    @property
    def dialling(self) -> list[Any]:
        return [dial for dial in self.loop.dials if not dial.done()]

    def each(self, action: Callable[[RequestLifecycle], None]) -> None:
        """Do something with every request in progress."""

        def act() -> None:
            for asked in self.open:
                action(asked.lifecycle)

        self.loop.do(act)

    # What clients do

    @precondition(lambda self: len(self.open) < MOST)
    @rule(number=st.integers(1, MOST), stream=st.sampled_from([True, True, False]), hurried=st.booleans())
    def ask(self, number: int, stream: bool, hurried: bool) -> None:
        for _ in range(min(number, MOST - len(self.open))):
            self.ask_once(stream, hurried=hurried)

    def ask_once(self, stream: bool, *, hurried: bool) -> None:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream})
        endpoint = FORWARDED[PATH.encode()]
        head = Head(endpoint, PATH.encode(), b"application/json", timeout=b"3" if hurried else None)
        caller = self.gateway.authorize(head)
        client = Receiver()
        request = Request(head, [], body.encode(), keep_alive=True, received=self.loop.now, caller=caller)

        def serve() -> None:
            lifecycle = self.gateway.serve(request, client)
            assert isinstance(lifecycle, RequestLifecycle)
            self.asked.append(Asked(lifecycle, client))

        self.loop.do(serve)

    @precondition(lambda self: bool(self.open))
    @rule(
        data=st.data(), what=st.sampled_from(["pause", "resume", "resume", "probe", "probe", "client_gone", "give_up"])
    )
    def client(self, data: st.DataObject, what: str) -> None:
        """The client does something; or this process gives its request up, since it stops."""
        asked = data.draw(st.sampled_from(self.open))
        said = [Draining("the gateway stops")] if what == "give_up" else []
        self.loop.do(getattr(asked.lifecycle, what), *said)
        asked.gone |= what == "client_gone"

    # What engines do

    @precondition(lambda self: bool(self.dialling))
    @rule(data=st.data(), well=st.sampled_from([True, True, True, False]))
    def connects(self, data: st.DataObject, well: bool) -> None:
        dial = data.draw(st.sampled_from(self.dialling))
        self.loop.do(dial.set_result, None if well else ConnectionRefusedError(111, "refused"))

    @precondition(lambda self: bool(self.busy))
    @rule(data=st.data())
    def says(self, data: st.DataObject) -> None:
        """An engine sends the beginning of an answer where there is none, else more of it; or what does not belong."""
        side = data.draw(st.sampled_from(self.busy))
        beginning, proper = not side.protocol.answered, data.draw(st.integers(0, 9)) > 0
        what = data.draw(st.sampled_from(sorted(BEGINNINGS if beginning is proper else MORE)))
        self.loop.do(side.protocol.data_received, {**BEGINNINGS, **MORE}[what])

    @precondition(lambda self: bool(self.busy) or bool(self.dialling))
    @rule()
    def all_go_on(self) -> None:
        """Every connection is made, and every engine begins to answer, or sends a token more."""
        for dial in self.dialling:
            self.loop.do(dial.set_result, None)
        for side in self.busy:
            self.loop.do(side.protocol.data_received, TOKEN if side.protocol.answered else STREAM + ROLE)

    @precondition(lambda self: any(side.protocol.answered for side in self.busy))
    @rule()
    def all_end(self) -> None:
        """Every engine that answers sends the last token and the end."""
        for side in self.busy:
            if side.protocol.answered:
                self.loop.do(side.protocol.data_received, TOKEN + DONE)

    @precondition(lambda self: any(side.protocol.reuse.reused for side in self.busy))
    @rule()
    def was_closed(self) -> None:
        """The engine had closed an idle connection when the request came."""
        self.loop.do(next(side for side in self.busy if side.protocol.reuse.reused).close)

    @precondition(lambda self: bool(self.connected))
    @rule(data=st.data(), error=st.sampled_from([None, ConnectionResetError("reset")]))
    def closes(self, data: st.DataObject, error: Exception | None) -> None:
        side = data.draw(st.sampled_from(self.connected))
        self.loop.do(side.close, error)

    @rule(data=st.data(), well=st.booleans())
    def is_probed(self, data: st.DataObject, well: bool) -> None:
        backend = data.draw(st.sampled_from(list(self.registry)))
        now = backend.readiness
        backend.learn(readiness.probe_passed(now) if well else readiness.probe_failed(now, "status 500"))

    # What happens here

    @rule(seconds=st.sampled_from([0.01, 0.01, 0.1, 0.3, 1.5, 1.5, 20.0, 40.0]))
    def passes(self, seconds: float) -> None:
        self.loop.now += seconds
        self.each(lambda lifecycle: lifecycle.check(self.loop.now))

    @rule()
    def reloads(self) -> None:
        self.loop.do(lambda: put_in_force(self.current, self.registry, self.table))

    # What holds

    @invariant()
    def nothing_is_wrong(self) -> None:
        assert not self.faults.found
        assert not self.loop.broken
        settled = self.notes.settled_ones
        assert len({id(each) for each in settled}) == len(settled), "once each"
        assert len(settled) + len(self.open) == len(self.asked)
        assert sum(backend.in_flight for backend in self.registry) == sum(
            each.lifecycle.state in TRYING for each in self.open
        )
        # What one engine alone was too busy for is held back for a while before it goes back to its place.
        assert self.waiting <= sum(each.lifecycle.state is State.QUEUED for each in self.open)
        for each in self.asked:
            assert each.client.ends == (each.lifecycle.state is State.SETTLED and not each.gone)

    @property
    def waiting(self) -> int:
        return sum(len(line.queue) for model in self.current.table for line in model.memory.lines.values())

    def teardown(self) -> None:
        try:
            self.each(RequestLifecycle.resume)
            for _ in range(3):
                self.passes(1000.0)
            assert [each.lifecycle for each in self.open] == []
            self.nothing_is_wrong()
            for backend in self.registry:
                slots, latency = backend.health.slots, backend.health.latency
                assert (slots.in_flight, slots.kv, latency.prefilling, latency.unbegun) == (0, 0, 0, 0)
            assert self.waiting == 0
            assert self.notes.ended == sum(len(each.attempts) for each in self.notes.settled_ones)
            for exchange in self.notes.settled_ones:
                self.is_in_order(exchange)
            self.spans_are_in_order()
        finally:
            logging.getLogger("gateway").removeHandler(self.faults)
            self.loop.close()

    @staticmethod
    def is_in_order(exchange: Exchange) -> None:
        before = exchange.received
        for attempt in exchange.attempts:
            assert attempt.result is not None
            moments = [attempt.sent_at - attempt.queued, attempt.sent_at, attempt.connected_at, attempt.head_at]
            moments = [before, *(each for each in moments if each), attempt.ended_at]
            assert sorted(moments) == moments
            before = attempt.ended_at
        assert before <= exchange.ended
        assert abs(exchange.queued + exchange.backend_seconds + exchange.overhead - exchange.e2e) < 1e-6

    def spans_are_in_order(self) -> None:
        """What the exporter sends is none of it negative, and none outside of its request."""
        spans = read(self.spans)
        requests = {span.span_id: span for span in spans if span.name.startswith("POST")}
        assert len(requests) == len(self.notes.settled_ones)
        last = {key: span.start_time_unix_nano for key, span in requests.items()}
        for span in spans:
            assert span.start_time_unix_nano <= span.end_time_unix_nano
            if span.span_id not in requests:
                request = span.parent_span_id
                slack = 1000  # nanoseconds: floats of seconds since 1970 are no finer
                assert last[request] <= span.start_time_unix_nano + slack
                last[request] = span.end_time_unix_nano
        assert all(last[key] <= span.end_time_unix_nano + 1000 for key, span in requests.items())


TRYING = (State.CONNECTING, State.AWAITING_HEAD, State.HOLDING, State.ANSWERING)

TestLiving = Living.TestCase
TestLiving.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
