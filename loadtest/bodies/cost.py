"""`python -m loadtest.bodies.cost`: what it costs to read long prompts, in-process, and whether it is linear.

Exits with 1 where the data path is compiled and the longest cost more than a millisecond per megabyte.
"""

import json
import sys
from time import perf_counter

from rich.console import Console
from rich.table import Table

from gateway import native
from gateway.wire.body import read_long_json
from gateway.wire.rope import BLOCK, Rope
from gateway.wire.slices import finish

MOST_PER_MB = 1.0
_SIZES = (100_000, 400_000, 1_000_000)
_ROUNDS = 50
_TEXT = "the quick brown fox jumps over the lazy dog and runs away\n"
_CODE = '    if it["name"] == "a":\n        return [each for each in it]\n'


def prompts(size: int) -> dict[str, bytes]:
    """Return bodies with about `size` bytes of messages, by what is in them."""
    contents = {
        "one message": [_TEXT * (size // len(json.dumps(_TEXT)))],
        "one message of code": [_CODE * (size // len(json.dumps(_CODE)))],
        **{f"messages of {each} bytes": [(_TEXT * 20)[: each - 32]] * (size // each) for each in (50, 100, 500)},
    }
    return {
        name: json.dumps(
            {"model": "m", "messages": [{"role": "user", "content": text} for text in texts], "max_tokens": 16},
            separators=(",", ":"),
        ).encode()
        for name, texts in contents.items()
    }


def cost_ms(raw: bytes) -> float:
    """Return milliseconds of reading a body in the best round: what others do on the machine only adds."""
    rope = Rope(raw[at : at + BLOCK] for at in range(0, len(raw), BLOCK))
    best = float("inf")
    for _ in range(_ROUNDS):
        began = perf_counter()
        finish(read_long_json(rope))
        best = min(best, perf_counter() - began)
    return 1000 * best


def main() -> int:
    table = Table("body", *(f"{size // 1000:,} KB" for size in _SIZES), title="milliseconds, and per MB")
    costs: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in prompts(0)}
    for size in _SIZES:
        for name, raw in prompts(size).items():
            costs[name][size] = (cost_ms(raw), 1e6 / len(raw))
    for name, found in costs.items():
        table.add_row(name, *(f"{each:.2f} ({each * scale:.2f})" for each, scale in found.values()))
    Console().print(table)
    print(f"the gateway ran {native.running()}")
    longest = [found[_SIZES[-1]] for found in costs.values()]
    is_dear = any(each * scale > MOST_PER_MB for each, scale in longest)
    return 1 if is_dear and native.is_compiled() else 0


if __name__ == "__main__":
    sys.exit(main())
