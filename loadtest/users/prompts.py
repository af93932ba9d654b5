"""What is asked: lengths drawn from a spread, and text of about that many tokens."""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from loadtest.traces.formats import BLOCK_TOKENS, Arrival

_TALK = (
    "all and any are big bit boy but buy can car cut day did eat end far few for get got had has her him his hot how "
    "its job law led let lot low man may men met mix net new nor not now off oil old one our out own pay per put ran "
    "red run saw say sea see set she six sit sky son sun ten the too top try two use war was way who why win yes yet"
)
_WORDS = tuple(_TALK.split())
"""Of three letters each: with its space a word is one token in most tokenizers, and in that of `tidegate sim`."""
_WORD_BYTES = 4
_BLOCKS = 4096
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


def prompt_of(arrival: Arrival, number: int, seed: int) -> str:
    """Return the prompt of a trace's request `number`, whose blocks are the same text wherever the trace has them."""
    if not arrival.blocks:
        return text(arrival.prompt_tokens, Random(f"{seed} replay {number}"))
    whole = " ".join(_block(block, seed) for block in arrival.blocks)
    return whole[: _WORD_BYTES * arrival.prompt_tokens - 1]


@lru_cache(_BLOCKS)
def _block(block: int, seed: int) -> str:
    return text(BLOCK_TOKENS, Random(f"{seed} block {block}"))
