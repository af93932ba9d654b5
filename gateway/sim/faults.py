"""Faults that can be switched on while the simulated server runs."""

import random
from collections.abc import Callable
from enum import Enum, auto

from pydantic import BaseModel, ConfigDict, Field


class Trip(Enum):
    """What happens to an answer in the middle."""

    STALL = auto()
    CUT = auto()
    ERROR = auto()


class StreamFaults(BaseModel):
    """Faults of one answer; token counts are over all of its choices, times in seconds.

    `stall_after` goes silent for good, with `: keep-alive` comments if `keep_alive_on_stall`; `cut_after` resets the
    connection; `stream_error_after` sends an error event, then the usual end. An answer that is not streamed is
    never finished, reset, or becomes a 500.
    """

    model_config = ConfigDict(extra="forbid")

    stall_after: int | None = Field(default=None, ge=0)
    keep_alive_on_stall: bool = False
    cut_after: int | None = Field(default=None, ge=0)
    stream_error_after: int | None = Field(default=None, ge=0)
    ttft_delay: float = Field(default=0.0, ge=0, le=3600)

    def trip(self, tokens: int) -> Trip | None:
        """Return the fault that strikes an answer with `tokens` output tokens, if any."""
        if self.cut_after is not None and tokens >= self.cut_after:
            return Trip.CUT
        if self.stream_error_after is not None and tokens >= self.stream_error_after:
            return Trip.ERROR
        if self.stall_after is not None and tokens >= self.stall_after:
            return Trip.STALL
        return None

    @property
    def trips(self) -> bool:
        """Whether an answer can be hit in the middle at all."""
        return (self.cut_after, self.stream_error_after, self.stall_after) != (None, None, None)


class Faults(StreamFaults):
    """Everything that can be wrong with the server; the body of POST /sim/faults, which replaces what was set before.

    `slow` multiplies every step's duration. While `frozen`, no step ends, and the HTTP server says nothing of it:
    /health and /metrics answer as before. `error_rate` is the share of calls answered with `error_code`. `refuse`
    closes the listening socket and idle connections until the fault is cleared on the control port; with
    `refuse_seconds` it comes back. During `not_ready_seconds`, /health and all calls answer 503. `dead` is
    an engine core that died under a living HTTP server: running streams end in an error event, calls answer 500,
    /health 503.
    """

    slow: float = Field(default=1.0, gt=0, le=10_000)
    frozen: bool = False
    error_rate: float = Field(default=0.0, ge=0, le=1)
    error_code: int = Field(default=500, ge=400, le=599)
    refuse: bool = False
    refuse_seconds: float | None = Field(default=None, gt=0, le=3600)
    not_ready_seconds: float | None = Field(default=None, gt=0, le=3600)
    dead: bool = False

    @property
    def refuses(self) -> bool:
        """Whether new connections are refused."""
        return self.refuse or self.refuse_seconds is not None


class FaultBoard:
    """The faults in force, and since when."""

    def __init__(self, clock: Callable[[], float], rng: random.Random) -> None:
        self.current = Faults()
        self._clock = clock
        self._rng = rng
        self._since = clock()

    def __repr__(self) -> str:
        return f"<FaultBoard {self.current.model_dump(exclude_defaults=True)}>"

    def set(self, faults: Faults) -> None:
        """Put faults in force, replacing those before."""
        self.current = faults
        self._since = self._clock()

    @property
    def ready(self) -> bool:
        """False while a `not_ready_seconds` or `dead` fault lasts."""
        seconds = self.current.not_ready_seconds
        return not self.current.dead and (seconds is None or self._clock() >= self._since + seconds)

    def draw_error(self) -> int | None:
        """Draw whether this call fails, and return its status if it does."""
        return self.current.error_code if self._rng.random() < self.current.error_rate else None
