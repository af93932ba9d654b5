"""The vocabulary of one request: where it goes, how it may end, and the record that is filled in on the way."""

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Final


class Dialect(StrEnum):
    """Whose event names and usage fields an answer speaks."""

    __hash__ = str.__hash__  # Enum's own is written in Python

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    PLAIN = "plain"


class BodyKind(Enum):
    """How a request names its model."""

    JSON = "json"
    MULTIPART = "multipart"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path that is forwarded to engines. `path` is also the upstream path: never the client's own bytes.

    `target` is what stands in a request line: the path, with the id of a stored response in it where it names one.
    `answers_json` says that whole answers are JSON. `is_json` and `is_plain` say of which kind its body and its answers
    are.
    """

    path: str
    operation: str
    dialect: Dialect = Dialect.PLAIN
    body: BodyKind = BodyKind.JSON
    answers_json: bool = True
    method: bytes = b"POST"
    target: bytes = field(default=b"", repr=False)
    is_json: bool = field(init=False, repr=False)
    is_plain: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", self.target or self.path.encode())
        object.__setattr__(self, "is_json", self.body is BodyKind.JSON)
        object.__setattr__(self, "is_plain", self.dialect is Dialect.PLAIN)


class Outcome(StrEnum):
    """How a request ended for the user: the closed set of the `outcome` label."""

    __hash__ = str.__hash__  # of every key on the hot path; Enum's own is written in Python

    OK = "ok"
    CLIENT_ERROR = "client_error"
    CLIENT_GONE = "client_gone"
    CLIENT_TIMEOUT = "client_timeout"
    QUOTA = "quota"
    SHED = "shed"
    NO_BACKEND = "no_backend"
    BACKEND_ERROR = "backend_error"
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"
    TOO_LARGE = "too_large"
    INTERNAL = "internal"


class AttemptEnd(StrEnum):
    """How one try at one backend ended: the closed set of the attempts' `outcome` label."""

    __hash__ = str.__hash__  # of every key on the hot path; Enum's own is written in Python

    OK = "ok"
    CLIENT_ERROR = "client_error"
    CLIENT_GONE = "client_gone"
    CLIENT_TIMEOUT = "client_timeout"
    SATURATED = "saturated"
    UNAUTHORIZED = "unauthorized"
    SERVER_ERROR = "server_error"
    CONNECT_FAILED = "connect_failed"
    NOT_READY = "not_ready"
    CLOSED_EARLY = "closed_early"
    STALE = "stale"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    ERROR_EVENT = "error_event"
    STALLED = "stalled"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"  # noqa: S105 - a timeout, not a secret
    DEADLINE_EXCEEDED = "deadline_exceeded"
    GATEWAY_LATE = "gateway_late"
    TOO_LARGE = "too_large"
    ABANDONED = "abandoned"


class Verdict(StrEnum):
    """What an ending says about availability. Not everything counts."""

    GOOD = "good"
    BAD = "bad"
    UNCOUNTED = "uncounted"


class Fault(StrEnum):
    """What a failed attempt shows of its backend to gateways that did not make it."""

    ANSWER = "answer"
    """It answered badly: so it may answer all of them."""
    BREAK = "break"
    """Its answer broke off: it did that, or the network between."""
    SILENCE = "silence"
    """Nothing came: it may be out of reach for this one alone."""


# Reading a member through its class takes a call (Python 3.11): what every request asks for is read here instead.
ANSWERED: Final = AttemptEnd.OK
SERVED: Final = Outcome.OK
INTERNAL: Final = Outcome.INTERNAL
GOOD: Final = Verdict.GOOD
BAD: Final = Verdict.BAD
UNCOUNTED: Final = Verdict.UNCOUNTED


class AttemptRecord:
    """The record of one try at one backend. Times are seconds on the monotonic clock, 0.0 meaning "did not happen".

    `sent_at` is when the backend was asked for: where there was no connection, one was made first, `connected_at` is
    when. `head_at` is when the head of an answer came. `queued` is for how many seconds the request had waited for the
    slot. `result` is None until the attempt has ended. `cost` is its part of what the backend cost meanwhile, in the
    currency of the pools' prices.
    """

    __slots__ = ("backend", "connected_at", "cost", "ended_at", "head_at", "pool", "queued", "result", "sent_at")

    def __init__(self, backend: str, pool: str, sent_at: float, queued: float = 0.0) -> None:
        self.backend = backend
        self.pool = pool
        self.queued = queued
        self.sent_at = sent_at
        self.connected_at = 0.0
        self.head_at = 0.0
        self.ended_at = 0.0
        self.cost = 0.0
        self.result: AttemptEnd | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.backend} {self.result or 'in progress'}>"


class Exchange:
    """The record of one request, filled in by the data plane and read by observers once it has settled.

    Times are seconds on the monotonic clock, 0.0 meaning "did not happen"; durations are seconds. `attempts` are its
    tries at backends, in order; `backend`, `pool`, `sent` and `attempt_ended` are the last one's. `itl` counts gaps
    between content events per bucket of `itl_bounds`, the last slot being +Inf. `asked` is the model as the client
    named it, or the path where `endpoint` is "other": text of a client, so for logs alone, and bounded there.
    `answer_size` is how much of an answer that is no stream has come, in bytes. `stream` is what the client asked for
    until an answer shows what it gets; `opened` whether the client has the head of an answer that is not whole yet.
    `routing` is the decision about the last attempt; its str() says it in words, none where there was no choice.
    `objective` names what it is held to, "" where that is its model's own. `excused` says that this process itself was
    late during the last attempt. `forced` says that the client chose the version, `weighed` that its TTFT is in a
    rollout's evidence already, `sticky` what keeps its client on a version. `trace` is the context of a request that
    leaves a trace. `held` are those of the seconds `queued` in which no engine was there, until one was woken.
    `cached_tokens` are those of `prompt_tokens` that the engine says it had in its cache.
    """

    __slots__ = (
        "answer_size",
        "asked",
        "attempts",
        "backend",
        "backend_seconds",
        "cached_tokens",
        "client_status",
        "content_events",
        "ended",
        "endpoint",
        "excused",
        "first_content",
        "forced",
        "held",
        "itl",
        "itl_bounds",
        "itl_sum",
        "last_content",
        "model",
        "objective",
        "opened",
        "outcome",
        "output_tokens",
        "pool",
        "prompt_estimate",
        "prompt_tokens",
        "queued",
        "reason",
        "received",
        "request_id",
        "routing",
        "service_class",
        "stands_in",
        "sticky",
        "stream",
        "tenant",
        "trace",
        "version",
        "weighed",
    )

    def __init__(self, request_id: str, endpoint: str, received: float) -> None:
        self.request_id = request_id
        self.endpoint = endpoint
        self.received = received
        self.service_class = "standard"
        self.tenant = ""
        self.model = "other"
        self.asked = ""
        self.objective = ""
        self.version = ""
        self.pool = ""
        self.backend = ""
        self.stream = False
        self.opened = False
        self.excused = False
        self.forced = False
        self.stands_in = False
        self.weighed = False
        self.sticky: bytes | None = None
        self.attempts: list[AttemptRecord] = []
        self.queued = 0.0
        self.held = 0.0
        self.backend_seconds = 0.0
        self.first_content = 0.0
        self.last_content = 0.0
        self.ended = 0.0
        self.content_events = 0
        self.answer_size = 0
        self.itl: list[int] = []
        self.itl_bounds: tuple[float, ...] = ()
        self.itl_sum = 0.0
        self.prompt_estimate = 0
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.output_tokens: int | None = None
        self.client_status = 0
        self.outcome = INTERNAL
        self.reason = ""
        self.routing: object = ""
        self.trace: object = None

    @property
    def sent(self) -> float:
        """When the last attempt began; 0.0 without one."""
        return self.attempts[-1].sent_at if self.attempts else 0.0

    @property
    def attempt_ended(self) -> float:
        """When the last attempt ended; 0.0 while it has not."""
        return self.attempts[-1].ended_at if self.attempts else 0.0

    @property
    def attempt_cost(self) -> float:
        """What the last attempt cost."""
        return self.attempts[-1].cost if self.attempts else 0.0

    @property
    def ttft(self) -> float | None:
        """Seconds from the request being fully received to its first content event being written."""
        return self.first_content - self.received if self.stream and self.first_content else None

    @property
    def tpot(self) -> float | None:
        """Seconds per output token after the first; None below 2 tokens and for answers that were not streamed."""
        tokens = self.output_tokens if self.output_tokens is not None else self.content_events
        if not self.stream or tokens < 2 or not self.first_content:
            return None
        return (self.last_content - self.first_content) / (tokens - 1)

    @property
    def e2e(self) -> float:
        """Seconds from the request being fully received to the last byte written."""
        return self.ended - self.received

    @property
    def overhead(self) -> float:
        """What is left of `e2e` after the queue and the time attempts were in a backend's hands: the gateway's own."""
        return max(0.0, self.ended - self.received - self.queued - self.backend_seconds)
