"""What is asked: lengths drawn from a spread, and text of about that many tokens."""

import math
import re
from dataclasses import dataclass
from random import Random

_TALK = (
    "the tide gate harbour boat wall wave moon shore anchor and rises falls with river current deep long time people "
    "water first over under from when where which each many some make like into look more write go see number way "
    "could than been call who its now find day get come made may part before after small great place right where most"
)
_WORDS = tuple(_TALK.split())
_SPREAD = re.compile(
    r"(?P<low>\d+(?:\.\d+)?)(?:-(?P<high>\d+(?:\.\d+)?))?|lognormal:(?P<median>\d+(?:\.\d+)?),(?P<sigma>\d+(?:\.\d+)?)"
)


@dataclass(frozen=True, slots=True)
class Spread:
    """Numbers to draw: evenly from `low` to `high`, or around a median, lognormal with `sigma`."""

    low: float = 0.0
    high: float = 0.0
    median: float = 0.0
    sigma: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Spread":
        """Read `200`, `50-400` or `lognormal:MEDIAN,SIGMA`; raises ValueError."""
        matched = _SPREAD.fullmatch(text.strip())
        if matched is None:
            raise ValueError(f"{text!r} is no spread; right are 200, 50-400 and lognormal:200,0.8")
        if matched["median"]:
            return cls(median=float(matched["median"]), sigma=float(matched["sigma"]))
        low, high = float(matched["low"]), float(matched["high"] or matched["low"])
        if high < low:
            raise ValueError(f"{text!r} ends below its beginning; right is {high:g}-{low:g}")
        return cls(low, high)

    def draw(self, rng: Random) -> float:
        """Return the next number; a lognormal one is at most twenty medians."""
        if self.median:
            return min(rng.lognormvariate(math.log(self.median), self.sigma), 20 * self.median)
        return rng.uniform(self.low, self.high)

    def whole(self, rng: Random) -> int:
        """Return the next number as a count, 1 at least."""
        return max(round(self.draw(rng)), 1)


def text(tokens: int, rng: Random) -> str:
    """Return so many common words: in most tokenizers each is one token."""
    return " ".join(rng.choices(_WORDS, k=max(tokens, 1)))
