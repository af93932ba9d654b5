"""Answers of a real vLLM, read from files, and a way to compare what JSON is made of."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CAPTURES = Path(__file__).parents[1] / "captures"


@dataclass(frozen=True)
class Captured:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        return events(self.body)


def captured(name: str) -> Captured:
    head, _, body = (CAPTURES / f"{name}.txt").read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
    status, *fields = head.decode().split("\n")
    headers = dict(field.split(": ", 1) for field in fields)
    return Captured(int(status.split()[1]), headers, body)


def events(body: bytes) -> list[Any]:
    """The data of every event; `[DONE]` stays a string."""
    lines = [line.removeprefix("data: ") for line in body.decode().split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def event_names(body: bytes) -> list[str]:
    return [line.removeprefix("event: ") for line in body.decode().split("\n") if line.startswith("event: ")]


def shape(value: Any) -> Any:
    """What a JSON value is made of: keys in order and kinds of values, numbers being one kind."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    if isinstance(value, bool) or value is None:
        return value
    return "number" if isinstance(value, int | float) else "text"
