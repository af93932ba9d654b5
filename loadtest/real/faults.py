"""What a client sees and what the gateway counts when a real engine fails: each fault once, on a gateway of its own."""

import contextlib
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import httpx

from loadtest.real.engine import KEY, MODEL, Engine
from loadtest.real.gateway import Gateway

Counted = Mapping[str, Mapping[str, int]]
TIMEOUTS = {"stall": "6s", "first_token": "6s", "first_byte": "6s"}
"""Of the gateway: longer than a short pause of the engine."""

_LONG, _SHORT_PAUSE = 1900, 3.0
_WITHIN = 120.0
_HOT = 2.0
CHAT, MESSAGES = "chat/completions", "messages"
_SERVER_ERRORS = ("api_error", "internal_error", "InternalServerError")
"""What vLLM calls its own failures in Anthropic's shape."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How one answer ended for its client.

    `code` is that of the error, as a body or as a stream's event; `cut` says that the connection broke before its end.
    """

    status: int
    code: str = ""
    done: bool = False
    cut: bool = False
    retry_after: bool = False

    def __str__(self) -> str:
        marks = {"[DONE]": self.done, "cut": self.cut, "Retry-After": self.retry_after}
        return " ".join([str(self.status), *filter(None, [self.code]), *(mark for mark in marks if marks[mark])])


@dataclass(frozen=True, slots=True)
class Failed:
    """One way in which a request may fail: what its client sees, and the outcomes of the request and its attempt.

    Without an `attempt` it reached no engine.
    """

    sees: str
    request: str
    attempt: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: how it comes about, and what must follow. `fatal` says that the engine has to be restarted.

    `expected` are counts as `loadtest.real.gateway` names them; `users` and `backend` are events of availability.
    Where `varies`, what the clients see and the names of what is counted are the only ones that may occur. Where an
    engine fails now in one way and now in another, `ways` are those of each request, in place of both: each request is
    bad once, each attempt is bad once, and nothing else is counted.
    """

    name: str
    act: Callable[[Engine, Gateway], list[Seen]]
    sees: tuple[str, ...] = ()
    expected: Counted = field(default_factory=dict)
    fatal: bool = False
    varies: bool = False
    ways: tuple[tuple[Failed, ...], ...] = ()

    def mismatches(self, seen: list[Seen], counted: Counted) -> list[str]:
        """Return what is not as it must be, in words."""
        if self.ways:
            return self._fits_no_way([str(each) for each in seen], counted)
        wrong = []
        saw, must = [str(each) for each in seen], list(self.sees)
        if (set(saw) - set(must)) if self.varies else saw != must:
            wrong.append(f"clients saw {_told(saw)}, not {_told(must)}")
        for name, expected in self.expected.items():
            found = counted[name]
            if (found.keys() - expected.keys()) if self.varies else found != expected:
                wrong.append(f"{name} were {dict(found) or 'none'}, not {dict(expected) or 'none'}")
        if (requests := sum(counted["requests"].values())) != len(seen):
            wrong.append(f"{requests} requests were counted, not {len(seen)}")
        return wrong

    def _fits_no_way(self, saw: list[str], counted: Counted) -> list[str]:
        if len(saw) != len(self.ways):
            return [f"{len(saw)} clients were answered, not {len(self.ways)}"]
        possible = [[each for each in ways if each.sees == what] for what, ways in zip(saw, self.ways, strict=True)]
        wrong = [
            f"client {number} saw {what}, not {' or '.join(dict.fromkeys(each.sees for each in ways))}"
            for number, (what, ways, fitting) in enumerate(zip(saw, self.ways, possible, strict=True), 1)
            if not fitting
        ]
        found = {name: dict(counted[name]) for name in ("requests", "attempts", "users", "backend")}
        if not wrong and not any(found == _counts(way) for way in product(*possible)):
            wrong.append(f"clients saw {_told(saw)}, and {found} was counted, not {_counts([e[0] for e in possible])}")
        return wrong


def stream(
    gateway: Gateway, during: Callable[[], object] = lambda: None, *, tokens: int = _LONG, path: str = CHAT
) -> Seen:
    """Ask for a stream, do something after its third chunk, and read on to its end."""
    code, chunks, done = "", 0, False
    with _post(gateway, path, tokens, stream=True) as answer:
        if answer.status_code != 200:
            return _error(answer)
        try:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line.removeprefix("data: "))
                    code = _code(event["error"]) if "error" in event else code
                    chunks += 1
                    if chunks == 3:
                        during()
                done = done or line == "data: [DONE]"
        except httpx.RemoteProtocolError:
            return Seen(200, code, done, cut=True)
    return Seen(200, code, done)


def plain(gateway: Gateway, *, tokens: int = _LONG, path: str = CHAT) -> Seen:
    """Ask for an answer as a whole."""
    with _post(gateway, path, tokens, stream=False) as answer:
        return Seen(200) if answer.status_code == 200 and answer.read() else _error(answer)


def both(gateway: Gateway, during: Callable[[], object], path: str = CHAT) -> list[Seen]:
    """Do something while a stream and a plain answer are in progress, then ask once more when it shows."""
    seen: list[Seen] = []
    other = threading.Thread(target=lambda: seen.append(plain(gateway, path=path)))

    def strike() -> None:
        other.start()
        _until(lambda: gateway.in_flight() == 2)
        time.sleep(0.5)  # so that the engine has it too, not only the gateway
        during()

    first = stream(gateway, strike, path=path)
    other.join()
    _until(lambda: not gateway.ready())
    return [first, *seen, plain(gateway, tokens=1, path=path)]


def core_killed(engine: Engine, gateway: Gateway) -> list[Seen]:
    return both(gateway, lambda: engine.signal_core(signal.SIGKILL))


def server_killed(engine: Engine, gateway: Gateway) -> list[Seen]:
    return both(gateway, lambda: engine.signal_api_server(signal.SIGKILL))


def terminated(engine: Engine, gateway: Gateway) -> list[Seen]:
    return both(gateway, lambda: engine.signal_api_server(signal.SIGTERM))


def terminated_messages(engine: Engine, gateway: Gateway) -> list[Seen]:
    return both(gateway, lambda: engine.signal_api_server(signal.SIGTERM), MESSAGES)


def paused(engine: Engine, gateway: Gateway) -> list[Seen]:
    """Stop all processes for less than the stall timeout."""

    def strike() -> None:
        with _stopped(engine.signal_all):
            time.sleep(_SHORT_PAUSE)

    return [stream(gateway, strike)]


def core_hung(engine: Engine, gateway: Gateway) -> list[Seen]:
    """Stop EngineCore for longer than every timeout, under a living API server."""
    with contextlib.ExitStack() as stack:
        first = stream(gateway, lambda: stack.enter_context(_stopped(engine.signal_core)))
        return [first, stream(gateway), plain(gateway)]


def server_hung(engine: Engine, gateway: Gateway) -> list[Seen]:
    """Stop all processes for longer than every timeout."""
    with contextlib.ExitStack() as stack:
        return [stream(gateway, lambda: stack.enter_context(_stopped(engine.signal_all)))]


def overloaded(_: Engine, gateway: Gateway) -> list[Seen]:
    """Ask for more at once than the engine runs and queues."""
    seen: list[Seen] = []
    threads = [threading.Thread(target=lambda: seen.append(stream(gateway, tokens=100))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


@contextlib.contextmanager
def _stopped(send: Callable[[int], None]) -> Iterator[None]:
    send(signal.SIGSTOP)
    try:
        yield
    finally:
        send(signal.SIGCONT)


@contextlib.contextmanager
def _post(gateway: Gateway, path: str, tokens: int, *, stream: bool) -> Iterator[httpx.Response]:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": tokens,
        # Messages have no `ignore_eos`: where all tokens are about as likely, the end is far.
        **({"temperature": _HOT} if path == MESSAGES else {"ignore_eos": True}),
        "stream": stream,
    }
    key = {"authorization": f"Bearer {KEY}"}
    url = f"{gateway.url}/v1/{path}"
    with httpx.stream("POST", url, json=body, headers=key, timeout=_WITHIN, trust_env=False) as answer:
        yield answer


def _error(answer: httpx.Response) -> Seen:
    error = json.loads(answer.read())["error"]
    return Seen(answer.status_code, _code(error), retry_after="retry-after" in answer.headers)


def _code(error: Mapping[str, object]) -> str:
    """Anthropic's shape has a type alone."""
    return str(error.get("code", error["type"]))


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WITHIN
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_WITHIN:g} s in vain")
        time.sleep(0.1)


def _counts(failed: Sequence[Failed]) -> dict[str, dict[str, int]]:
    """Return what is counted where each request failed so: once for its users, and once for the engine if it got it."""
    attempts = Counter(each.attempt for each in failed if each.attempt)
    backend = {"bad": attempts.total()} if attempts else {}
    return {
        "requests": dict(Counter(each.request for each in failed)),
        "attempts": dict(attempts),
        "users": {"bad": len(failed)},
        "backend": backend,
    }


def _told(saw: list[str]) -> str:
    return ", ".join(saw)


_DOWN = "503 no_ready_backend Retry-After"


def _terminated(
    broken: str, errors: Sequence[str], failed: str, refusals: Sequence[str], late: str, down: str
) -> tuple[tuple[Failed, ...], ...]:
    """Return how a stream, an answer in one piece and a request after them fail at a vLLM that got SIGTERM.

    It aborts what it generates, answers 500, or says nothing more for longer than the timeouts until it closes its
    connections; its port is closed by then, or open without an answer.
    """
    return (
        (
            Failed(broken, "truncated", "truncated"),
            Failed(broken, "truncated", "stalled"),
            *(Failed(error, "truncated", "error_event") for error in errors),
        ),
        (
            Failed(failed, "backend_error", "truncated"),
            Failed(failed, "backend_error", "closed_early"),
            Failed(late, "timeout", "first_token_timeout"),
            *(Failed(refusal, "backend_error", "server_error") for refusal in refusals),
        ),
        (
            Failed(down, "no_backend"),
            Failed(down, "no_backend", "connect_failed"),
            Failed(failed, "backend_error", "closed_early"),
            Failed(late, "timeout", "first_token_timeout"),
        ),
    )


FAULTS = (
    Fault(
        "SIGSTOP of all processes for 3 s",
        paused,
        ("200 [DONE]",),
        {
            "requests": {"ok": 1},
            "attempts": {"ok": 1},
            "users": {"good": 1},
            "backend": {"good": 1},
            "ejections": {},
        },
    ),
    Fault(
        "SIGSTOP of all processes under a stream, 6 s and more",
        server_hung,
        ("200 stream_broken cut",),
        {
            "requests": {"truncated": 1},
            "attempts": {"stalled": 1},
            "users": {"bad": 1},
            "backend": {"bad": 1},
        },
    ),
    Fault(
        "SIGSTOP of EngineCore under a stream, then a stream, then a plain answer",
        core_hung,
        ("200 stream_broken cut", "504 first_token_timeout", "504 first_token_timeout"),
        {
            "requests": {"truncated": 1, "timeout": 2},
            "attempts": {"stalled": 1, "first_token_timeout": 2},
            "users": {"bad": 3},
            "backend": {"bad": 3},
        },
    ),
    Fault(
        "overload: more streams than the engine runs and queues",
        overloaded,
        ("200 [DONE]", "503 overloaded Retry-After", "503 503"),
        {
            "requests": {"ok": 1, "shed": 1, "backend_error": 1},
            "attempts": {"ok": 1, "saturated": 1},
            "users": {"good": 1, "bad": 1},
            "backend": {"good": 1},
            "ejections": {},
        },
        varies=True,
    ),
    Fault(
        "kill -9 of EngineCore under a stream and a plain answer, then a request",
        core_killed,
        ("200 500 cut", "500 500", _DOWN),
        {
            "requests": {"truncated": 1, "backend_error": 1, "no_backend": 1},
            "attempts": {"error_event": 1, "server_error": 1},
            "users": {"bad": 3},
            "backend": {"bad": 2},
        },
        fatal=True,
    ),
    Fault(
        "kill -9 of the API server under a stream and a plain answer, then a request",
        server_killed,
        ("200 stream_broken cut", "502 backend_error", _DOWN),
        {
            "requests": {"truncated": 1, "backend_error": 1, "no_backend": 1},
            "attempts": {"truncated": 1, "closed_early": 1},
            "users": {"bad": 3},
            "backend": {"bad": 2},
        },
        fatal=True,
    ),
    Fault(
        "SIGTERM under a stream and a plain answer, then a request",
        terminated,
        fatal=True,
        ways=_terminated(
            "200 stream_broken cut", ["200 500 cut"], "502 backend_error", ["500 500"], "504 first_token_timeout", _DOWN
        ),
    ),
    Fault(
        "SIGTERM under a message's stream and a whole message, then a request",
        terminated_messages,
        fatal=True,
        ways=_terminated(
            "200 api_error cut",
            [f"200 {name} cut" for name in _SERVER_ERRORS],
            "502 api_error",
            [f"500 {name}" for name in _SERVER_ERRORS],
            "504 timeout_error",
            "503 overloaded_error Retry-After",
        ),
    ),
)
"""In the order in which they are played: those that the engine survives come first."""
