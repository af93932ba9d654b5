"""`python -m loadtest.traces.generate`: regenerate the sample traces, synthetic ones in the formats of the real.

Arrivals come in bursts (gamma gaps, about three times as uneven as a Poisson process), lengths are lognormal. The
real traces: github.com/Azure/AzurePublicDataset and github.com/HPMLL/BurstGPT.
"""

import argparse
import csv
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from math import log
from pathlib import Path
from random import Random

_HERE = Path(__file__).parent
_BEGAN = datetime(2023, 11, 16, 18, 15, 46, 680590)
_UNEVEN = 0.35
_FAILED = 0.02


def azure(rows: int, rng: Random) -> Iterable[Sequence[object]]:
    """Yield the lines of a trace like Azure's of 2023: conversation, five requests a second."""
    yield "TIMESTAMP", "ContextTokens", "GeneratedTokens"
    for at in _arrivals(rows, 0.2, rng):
        moment = _BEGAN + timedelta(seconds=at)
        yield f"{moment:%Y-%m-%d %H:%M:%S.%f}0", _length(800, 0.9, rng, 6000), _length(100, 0.8, rng, 700)


def burstgpt(rows: int, rng: Random) -> Iterable[Sequence[object]]:
    """Yield the lines of a trace like BurstGPT's: whole seconds, two models, some requests without an answer."""
    yield "Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type"
    for at in _arrivals(rows, 2.0, rng):
        prompt = _length(500, 1.0, rng, 6000)
        output = 0 if rng.random() < _FAILED else _length(200, 0.7, rng, 800)
        model, kind = rng.choice(
            (("ChatGPT", "Conversation log"), ("GPT-4", "Conversation log"), ("ChatGPT", "API log"))
        )
        yield round(at) + 5, model, prompt, output, prompt + output, kind


def _arrivals(rows: int, gap: float, rng: Random) -> Iterable[float]:
    return accumulate((rng.gammavariate(_UNEVEN, gap / _UNEVEN) for _ in range(rows - 1)), initial=0.0)


def _length(median: float, sigma: float, rng: Random, most: int) -> int:
    return min(max(round(rng.lognormvariate(log(median), sigma)), 1), most)


def main() -> None:
    """Write both samples beside this file, or into the folder that is named."""
    parser = argparse.ArgumentParser(description="Regenerate the sample traces.")
    parser.add_argument("--folder", type=Path, default=_HERE, help="Where to; without it, beside this file.")
    parser.add_argument("--rows", type=int, default=300, help="Requests in each.")
    parser.add_argument("--seed", type=int, default=0, help="Another seed, another trace.")
    options = parser.parse_args()
    for name, make in (("azure", azure), ("burstgpt", burstgpt)):
        with (options.folder / f"{name}-sample.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(make(options.rows, Random(f"{options.seed} {name}")))


if __name__ == "__main__":
    main()
