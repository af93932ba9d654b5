"""Traces of real load: when requests came, how long their prompts and answers were.

Read are the Azure LLM inference traces (`TIMESTAMP,ContextTokens,GeneratedTokens`, of 2023 and 2024) and BurstGPT
(`Timestamp,...,Request tokens,Response tokens,...`, in every release). The header says which one it is.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TextIO, TypeVar

_Value = TypeVar("_Value", int, float)


class TraceError(ValueError):
    """A trace that cannot be read; the message names file, line and how to fix it."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: seconds after the first of its trace, tokens of its prompt and of its answer (both at least 1)."""

    at: float
    prompt_tokens: int
    output_tokens: int


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
        raise TraceError(f"{path}: is not text; a trace is a CSV file, unpacked") from None
    if not rows:
        raise TraceError(f"{path}: has no requests, only a header")
    rows.sort(key=lambda row: row.at)
    return [Arrival(row.at - rows[0].at, row.prompt_tokens, row.output_tokens) for row in rows]


def _rows(path: Path, file: TextIO) -> Iterator[Arrival]:
    table = csv.DictReader(file)
    found = table.fieldnames or ()
    form = next((form for form in (AZURE, BURSTGPT) if {form.time, form.prompt, form.output} <= set(found)), None)
    if form is None:
        wanted = " or ".join(f"{form.name}'s {form.time},{form.prompt},{form.output}" for form in (AZURE, BURSTGPT))
        raise TraceError(f"{path}:1: the header is {','.join(found)!r}; right are the columns {wanted}")
    for row in table:
        where = f"{path}:{table.line_num}"
        at = _cell(row[form.time], form.seconds, f"{where}: {form.time}", f"a time like {form.example}")
        prompt, output = (
            _cell(row[column], _count, f"{where}: {column}", "a whole number of tokens, 0 or more")
            for column in (form.prompt, form.output)
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
