"""Requests of a code assistant: a part of a recorded trace, or synthetic ones like those of the Azure trace of 2023.

That trace has 8,819 requests in 57 minutes, in some 58 bursts with silence between them: its gaps have a coefficient of
variation of 13, where requests at random have 1.
"""

from collections.abc import Iterator, Sequence
from math import log
from random import Random

from loadtest.traces.formats import Arrival

_BURST_MEDIAN, _BURST_SIGMA = 105.0, 0.9
_SILENCE_MEDIAN, _SILENCE_SIGMA = 26.0, 1.0
_TOGETHER = 0.25
"""The share of requests that come in the same instant as the one before."""
_GAP = 0.12
_PROMPT_MEDIAN, _PROMPT_SIGMA = 1469.0, 1.1
_OUTPUT_MEDIAN, _OUTPUT_SIGMA = 13.0, 0.9


def part(trace: Sequence[Arrival], seconds: float, rng: Random) -> Iterator[Arrival]:
    """Yield the requests of so many seconds of a trace, from a random moment on, with times from there."""
    start = rng.uniform(0.0, max(0.0, trace[-1].at - seconds))
    for each in trace:
        if start <= each.at < start + seconds:
            yield Arrival(each.at - start, each.prompt_tokens, each.output_tokens)


def code_assistant(seconds: float, rng: Random) -> Iterator[Arrival]:
    """Yield requests that come as in the trace, for so many seconds."""
    at = rng.uniform(0.0, _SILENCE_MEDIAN)
    while at < seconds:
        for _ in range(max(1, round(rng.lognormvariate(log(_BURST_MEDIAN), _BURST_SIGMA)))):
            if at < seconds:
                yield Arrival(
                    at, _length(_PROMPT_MEDIAN, _PROMPT_SIGMA, rng), _length(_OUTPUT_MEDIAN, _OUTPUT_SIGMA, rng)
                )
            at += 0.001 if rng.random() < _TOGETHER else rng.expovariate(1 / _GAP)
        at += rng.lognormvariate(log(_SILENCE_MEDIAN), _SILENCE_SIGMA)


def _length(median: float, sigma: float, rng: Random) -> int:
    return max(1, round(rng.lognormvariate(log(median), sigma)))
