"""Traces of real load: when requests came, how long their prompts and answers were.

Read are the Azure LLM inference traces (`TIMESTAMP,ContextTokens,GeneratedTokens`, of 2023 and 2024), BurstGPT
(`Timestamp,...,Request tokens,Response tokens,...`, in every release) and Mooncake's traces, which have a JSON object
in each line and also say which prompts begin alike. The first line says which one it is.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TextIO, TypeVar

_Value = TypeVar("_Value", int, float)
BLOCK_TOKENS = 512
"""Tokens of a block in Mooncake's traces."""


class TraceError(ValueError):
    """A trace that cannot be read; the message names file, line and how to fix it."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: seconds after the first of its trace, tokens of its prompt and of its answer (both at least 1).

    `blocks` identifies the contents of the prompt, `BLOCK_TOKENS` at a time; the last block may be shorter. A trace
    that does not say what its prompts have in common has none.
    """

    at: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """What a trace's columns are called, and how its times are written; `example` is a right one."""

    name: str
    time: str
    prompt: str
    output: str
    seconds: Callable[[str], float]
    example: str


def _timestamp(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


AZURE = Format("Azure", "TIMESTAMP", "ContextTokens", "GeneratedTokens", _timestamp, "2023-11-16 18:15:46.6805900")
BURSTGPT = Format("BurstGPT", "Timestamp", "Request tokens", "Response tokens", float, "118 or 118.5")
MOONCAKE = '{"timestamp": 0, "input_length": 600, "output_length": 50, "hash_ids": [0, 1]}'
_TOKENS = "a whole number of tokens, 0 or more"


def read_trace(path: Path, *, limit: int | None = None) -> list[Arrival]:
    """Return the first `limit` requests of a trace in the order they came; raises TraceError.

    A request without output tokens failed when it was recorded; it came all the same, so it asks for one.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(islice(_rows(path, file), limit))
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TraceError(f"{path}: is not text; a trace is a CSV or JSONL file, unpacked") from None
    if not rows:
        raise TraceError(f"{path}: has no requests, only a header")
    rows.sort(key=lambda row: row.at)
    return [replace(row, at=row.at - rows[0].at) for row in rows]


def repeated(arrivals: Iterable[Arrival]) -> float:
    """Return the share of all prompt tokens that an endless cache would find: leading blocks that came before."""
    seen: set[int] = set()
    found = total = 0
    for arrival in arrivals:
        total += arrival.prompt_tokens
        known = next((n for n, block in enumerate(arrival.blocks) if block not in seen), len(arrival.blocks))
        found += min(known * BLOCK_TOKENS, arrival.prompt_tokens)
        seen.update(arrival.blocks)
    return found / total if total else 0.0


def _rows(path: Path, file: TextIO) -> Iterator[Arrival]:
    first = file.read(1)
    file.seek(0)
    return _objects(path, file) if first == "{" else _table(path, file)


def _objects(path: Path, file: TextIO) -> Iterator[Arrival]:
    """Read Mooncake's lines; times are milliseconds."""
    for number, line in enumerate(file, start=1):
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise TraceError(f"{where}: {line.strip()[:40]!r} is no JSON object; right is a line like {MOONCAKE}")
        at = row.get("timestamp")
        if not isinstance(at, int | float) or isinstance(at, bool) or not isfinite(at):
            raise TraceError(f"{where}: timestamp is {at!r}; right is a number of milliseconds")
        prompt, output = (_tokens(where, row, name) for name in ("input_length", "output_length"))
        blocks, wanted = row.get("hash_ids"), -(-prompt // BLOCK_TOKENS)
        if not isinstance(blocks, list) or not all(type(block) is int for block in blocks) or len(blocks) != wanted:
            raise TraceError(
                f"{where}: hash_ids does not fit input_length {prompt}; right is a list with a whole number for each "
                f"{BLOCK_TOKENS} tokens, {wanted} of them"
            )
        yield Arrival(at / 1000, max(prompt, 1), max(output, 1), tuple(blocks))


def _tokens(where: str, row: dict[str, object], name: str) -> int:
    count = row.get(name)
    if type(count) is not int or count < 0:
        raise TraceError(f"{where}: {name} is {count!r}; right is {_TOKENS}")
    return count


def _table(path: Path, file: TextIO) -> Iterator[Arrival]:
    table = csv.DictReader(file)
    found = table.fieldnames or ()
    form = next((form for form in (AZURE, BURSTGPT) if {form.time, form.prompt, form.output} <= set(found)), None)
    if form is None:
        wanted = " or ".join(f"{form.name}'s {form.time},{form.prompt},{form.output}" for form in (AZURE, BURSTGPT))
        raise TraceError(
            f"{path}:1: the header is {','.join(found)!r}; right are the columns {wanted}, or Mooncake's lines of JSON"
        )
    for row in table:
        where = f"{path}:{table.line_num}"
        at = _cell(row[form.time], form.seconds, f"{where}: {form.time}", f"a time like {form.example}")
        prompt, output = (
            _cell(row[column], _count, f"{where}: {column}", _TOKENS) for column in (form.prompt, form.output)
        )
        yield Arrival(at, max(prompt, 1), max(output, 1))


def _cell(text: str | None, read: Callable[[str], _Value], where: str, right: str) -> _Value:
    try:
        return read(text or "")
    except ValueError:
        raise TraceError(f"{where} is {text!r}; right is {right}") from None


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)
