"""When one request asks again after engines that are at work refused it: their load passes, or it is the request."""

from gateway.policy.routing.backoff import FIRST_PAUSE, LONGEST_HOLD
from gateway.policy.routing.retry import MAX_RETRIES


class Refusals:
    """How often one request was refused `by` engines that are not sick.

    `is_alone` says that the last engine had nothing else to do: then its load was not the reason, and the request is
    held back, not the engine. `patience` is the Retry-After of that refusal in seconds, None where there was none.
    """

    __slots__ = ("by", "count", "is_alone", "patience")

    def __init__(self) -> None:
        self.by: set[str] = set()
        self.count = 0
        self.is_alone = False
        self.patience: float | None = None

    def __repr__(self) -> str:
        return f"<Refusals {self.count}{', the last by an idle engine' if self.is_alone else ''}>"

    def refused(self, by: str, patience: float | None, *, alone: bool) -> None:
        """Learn of one more."""
        self.by.add(by)
        self.count += 1
        self.is_alone, self.patience = alone, patience

    @property
    def are_many(self) -> bool:
        """Whether they say more of this request than of the engines."""
        return self.count > MAX_RETRIES

    def pause(self, left: float) -> float | None:
        """Return for how many seconds it waits before it asks again, with so many `left`; None to give up at once.

        At first it keeps its place in line beside an engine at capacity, which paces those that ask. One that is
        refused again and again makes way for others, for twice as long each time, and from half of its time on for half
        of what is left: it asks about 2 log2(4 x patience) times in all. An engine does no work for what it refuses, so
        that these do not take from the budget of retries, which those need whose engine fails.
        """
        if self.is_alone:
            pause = min(self.patience or FIRST_PAUSE * 2.0 ** (self.count - 1), LONGEST_HOLD)
            return pause if pause < left else None
        if self.count <= MAX_RETRIES:
            return 0.0
        return max(FIRST_PAUSE, min(FIRST_PAUSE * 2.0 ** min(self.count, 30), left / 2))
