"""What a request asks of a backend's slots: the word that routing and admission share."""

from math import inf
from typing import Final, Protocol

from gateway.marks import mypyc_attr


class HoldingTimes(Protocol):
    """How long requests of one kind hold a slot, in seconds."""

    @property
    def mean(self) -> float:
        """Their mean; 0.0 while unknown."""

    @property
    def usual(self) -> float:
        """Their mean while all was well, of late; 0.0 while unknown."""

    @property
    def is_known(self) -> bool:
        """Whether enough of them have ended to say more."""

    def ends_within(self, age: float, seconds: float) -> float:
        """Return the chance, 0 to 1, that one which is `age` old ends within so many seconds."""


class _Unknown:
    """Of requests of no particular kind nothing is known."""

    mean = 0.0
    usual = 0.0
    is_known = False

    def ends_within(self, age: float, seconds: float) -> float:  # noqa: ARG002 - asked as any HoldingTimes
        """Return 1, since nothing is known."""
        return 1.0


class Claim:
    """What one request asks of a slot.

    `kv` are the tokens of its prompt and answer, `priority` is that of its class (the lowest goes first). `kind` tells
    how long similar requests hold a slot. `only` is the health of the one backend that it may use, None for any.
    While it waits, `since` says since when (seconds), and `is_due` whether its class's guaranteed share has come due.
    """

    __slots__ = ("is_due", "kind", "kv", "only", "priority", "sheddable", "since")

    def __init__(
        self, kv: int = 0, priority: int = 0, *, sheddable: bool = False, kind: HoldingTimes | None = None
    ) -> None:
        self.kv = kv
        self.priority = priority
        self.sheddable = sheddable
        self.kind: HoldingTimes = kind if kind is not None else _UNKNOWN
        self.only: object = None
        self.since = inf
        self.is_due = False

    def __repr__(self) -> str:
        return f"<Claim {self.kv} tokens at priority {self.priority}>"


_UNKNOWN: Final = _Unknown()
SMALLEST: Final = Claim()
"""A request of the highest class without a token: where it does not fit, none does."""


@mypyc_attr(allow_interpreted_subclasses=True)
class SlotRules:
    """Who may have a free slot of a backend: everyone, by these; admission's say more."""

    __slots__ = ()

    @property
    def is_strict(self) -> bool:
        """Whether some requests may not have one."""
        return False

    def allows(self, claim: Claim, in_flight: int, limit: int) -> bool:  # noqa: ARG002
        """Whether a request may have one."""
        return True

    def took(self, claim: Claim, now: float) -> None:
        """Learn that a request has one."""

    def released(self, claim: Claim) -> None:
        """Learn that it has given it back."""
