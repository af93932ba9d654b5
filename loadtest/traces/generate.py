"""`python -m loadtest.traces.generate`: regenerate the sample traces, synthetic ones in the formats of the real.

Arrivals come in bursts (gamma gaps, about three times as uneven as a Poisson process), lengths are lognormal. The
real traces: github.com/Azure/AzurePublicDataset, github.com/HPMLL/BurstGPT and github.com/kvcache-ai/Mooncake.
"""

import argparse
import csv
import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import accumulate, count
from math import log
from pathlib import Path
from random import Random

from loadtest.traces.formats import BLOCK_TOKENS

_HERE = Path(__file__).parent
_BEGAN = datetime(2023, 11, 16, 18, 15, 46, 680590)
_UNEVEN = 0.35
_FAILED = 0.02
_CONTINUED = 0.6
_LONGEST = 6000


def azure(rows: int, rng: Random) -> Iterable[Sequence[object]]:
    """Yield the lines of a trace like Azure's of 2023: conversation, five requests a second."""
    yield "TIMESTAMP", "ContextTokens", "GeneratedTokens"
    for at in _arrivals(rows, 0.2, rng):
        moment = _BEGAN + timedelta(seconds=at)
        yield f"{moment:%Y-%m-%d %H:%M:%S.%f}0", _length(800, 0.9, rng, _LONGEST), _length(100, 0.8, rng, 700)


def burstgpt(rows: int, rng: Random) -> Iterable[Sequence[object]]:
    """Yield the lines of a trace like BurstGPT's: whole seconds, two models, some requests without an answer."""
    yield "Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type"
    for at in _arrivals(rows, 2.0, rng):
        prompt = _length(500, 1.0, rng, _LONGEST)
        output = 0 if rng.random() < _FAILED else _length(200, 0.7, rng, 800)
        model, kind = rng.choice(
            (("ChatGPT", "Conversation log"), ("GPT-4", "Conversation log"), ("ChatGPT", "API log"))
        )
        yield round(at) + 5, model, prompt, output, prompt + output, kind


def mooncake(rows: int, rng: Random) -> Iterable[str]:
    """Yield the lines of a trace like Mooncake's: conversations that grow, all of them after one system prompt."""
    new = count(1)
    conversations: list[tuple[int, list[int]]] = []
    for at in _arrivals(rows, 0.3, rng):
        place = rng.randrange(len(conversations)) if conversations and rng.random() < _CONTINUED else None
        before, blocks = (BLOCK_TOKENS, [0]) if place is None else conversations[place]
        prompt = min(before + _length(500, 0.8, rng, 3000), _LONGEST)
        blocks = blocks[: min(before, prompt) // BLOCK_TOKENS]
        blocks += [next(new) for _ in range(-(-prompt // BLOCK_TOKENS) - len(blocks))]
        output = _length(120, 0.8, rng, 700)
        yield json.dumps(
            {"timestamp": round(1000 * at), "input_length": prompt, "output_length": output, "hash_ids": blocks}
        )
        if place is None:
            conversations.append((prompt, blocks))
        else:
            conversations[place] = prompt, blocks


def _arrivals(rows: int, gap: float, rng: Random) -> Iterable[float]:
    return accumulate((rng.gammavariate(_UNEVEN, gap / _UNEVEN) for _ in range(rows - 1)), initial=0.0)


def _length(median: float, sigma: float, rng: Random, most: int) -> int:
    return min(max(round(rng.lognormvariate(log(median), sigma)), 1), most)


def main() -> None:
    """Write the samples beside this file, or into the folder that is named."""
    parser = argparse.ArgumentParser(description="Regenerate the sample traces.")
    parser.add_argument("--folder", type=Path, default=_HERE, help="Where to; without it, beside this file.")
    parser.add_argument("--rows", type=int, default=300, help="Requests in each.")
    parser.add_argument("--seed", type=int, default=0, help="Another seed, another trace.")
    options = parser.parse_args()
    for name, make in (("azure", azure), ("burstgpt", burstgpt)):
        with (options.folder / f"{name}-sample.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(make(options.rows, Random(f"{options.seed} {name}")))
    lines = mooncake(options.rows, Random(f"{options.seed} mooncake"))
    (options.folder / "mooncake-sample.jsonl").write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
