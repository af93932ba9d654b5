"""Latencies as they were observed, by the length of the prompt: what objectives can be proposed from."""

from typing import Final

from gateway.policy.slo.buckets import bucket_of
from gateway.policy.slo.objective import DAY, Sli

STEPS: Final[tuple[int, ...]] = (256, 1024, 4096, 16_384, 65_536)
"""Prompt tokens from which another class of lengths begins."""
BOUNDS: Final[tuple[float, ...]] = tuple(0.001 * 1.2**step for step in range(74))
"""Upper bounds in seconds, from a millisecond to ten minutes; the last bucket has none."""
ALL: Final = 10_000
"""Requests of a generation that are all counted."""
EVERY: Final = 8
"""Of how many requests after those one is counted."""
GENERATION: Final = 14 * DAY
"""Seconds after which the latencies before the last generation are forgotten."""
OBSERVED: Final[tuple[Sli, ...]] = (Sli.TTFT, Sli.TPOT, Sli.E2E)
# Their places there: what every request counts is not looked up by name.
TTFT: Final = 0
TPOT: Final = 1
E2E: Final = 2


class Observed:
    """Counts per bucket by SLI and class of prompt lengths, of the last two to four weeks; `began` is the first's time.

    A class that had no requests has no counts. Of many requests one in eight is counted, as eight.
    """

    __slots__ = ("_before", "_before_began", "_counts", "_current_began", "_seen")

    def __init__(self, now: float) -> None:
        self._current_began = self._before_began = now
        self._counts = _nothing()
        self._before = _nothing()
        self._seen = 0

    def __repr__(self) -> str:
        return f"<Observed {sum(bool(each) for each in self._counts)} series>"

    @property
    def began(self) -> float:
        """When the first of what is still known was observed."""
        return self._before_began

    def turn(self, now: float) -> None:
        """Begin another generation where this one has lasted long enough."""
        if now - self._current_began >= GENERATION:
            self._before, self._counts = self._counts, _nothing()
            self._before_began, self._current_began = self._current_began, now
            self._seen = 0

    def weight(self) -> int:
        """Return as how many requests the next one counts, 0 for one that does not."""
        self._seen += 1
        if self._seen <= ALL:
            return 1
        return EVERY if self._seen % EVERY == 0 else 0

    def add(self, place: int, step: int, seconds: float, weight: int = 1) -> None:
        """Count a latency (`place` is that of its SLI in `OBSERVED`) of a prompt of this class of lengths, from 0."""
        at = place * (len(STEPS) + 1) + step
        counts = self._counts[at]
        if not counts:
            counts = self._counts[at] = [0] * (len(BOUNDS) + 1)
        counts[bucket_of(BOUNDS, seconds)] += weight

    def counts(self, sli: str) -> list[list[int]]:
        """Return the counts of an SLI, class by class, each with one count per bucket."""
        classes = len(STEPS) + 1
        first = [str(each) for each in OBSERVED].index(sli) * classes
        pairs = zip(self._before[first : first + classes], self._counts[first : first + classes], strict=True)
        return [[sum(pair) for pair in zip(old or _NONE, new or _NONE, strict=True)] for old, new in pairs]


_NONE: Final[list[int]] = [0] * (len(BOUNDS) + 1)


def _nothing() -> list[list[int]]:
    return [[] for _ in range(len(OBSERVED) * (len(STEPS) + 1))]


def step_of(prompt_tokens: int) -> int:
    """Return the class of prompts of this length, from 0."""
    step = 0
    for begin in STEPS:
        if prompt_tokens < begin:
            break
        step += 1
    return step
