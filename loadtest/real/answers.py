"""Answers reduced to what must be the same each time: fields, types and fixed values."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

_VOLATILE = frozenset(
    (
        *("id", "item_id", "call_id", "toolCallId", "tool_call_id", "response_id", "obfuscation"),
        *("created", "created_at", "completed_at", "timestamp", "sequence_number", "date"),
    )
)
"""Fields whose values differ from answer to answer: ids, times, counters of events."""

_PIECES = frozenset(("content", "text", "delta", "arguments", "partial_json", "token", "bytes", "input", "args"))
"""Fields with text that a stream brings in pieces, cut differently each time: compared as a whole."""


def reduced(answer: Any) -> dict[str, Any]:
    """Return an answer as leaves by path; raises nothing for any JSON."""
    leaves: dict[str, Any] = {}
    _flatten(_shape(answer, ""), "", leaves)
    texts: dict[str, str] = {}
    _gather(answer, "", texts)
    return leaves | {f"text of {path}": text for path, text in texts.items()}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return both leaves of each path where they differ, "absent" for none."""
    paths = dict.fromkeys((*one, *other))
    pairs = {path: (one.get(path, "absent"), other.get(path, "absent")) for path in paths}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def _ordered(events: list[Any]) -> list[Any]:
    """Choices of one stream come interleaved by chance: sort them apart."""

    def choice(event: Any) -> float:
        choices = event.get("choices") if isinstance(event, dict) else None
        return choices[0].get("index", 0) if choices else float("inf")

    return sorted(events, key=choice)


def _shape(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        shape = {key: _shape(each, key) for key, each in value.items()}
        if value.get("object") == "chat.completion.chunk" and value.get("choices") and value.get("usage"):
            shape["usage"] = sorted(value["usage"])  # counts so far follow where the stream is cut
        return shape
    if isinstance(value, list):
        if name == "bytes":
            return "<list>"
        shapes = [_shape(each, name) for each in _ordered(value)]
        return [shape for shape, _ in groupby(shapes)]
    if value is not None and (name in _VOLATILE or name in _PIECES or isinstance(value, float)):
        return f"<{type(value).__name__}>"
    return value


def _flatten(value: Any, path: str, leaves: dict[str, Any]) -> None:
    items: Sequence[tuple[str, Any]] = ()
    if isinstance(value, dict):
        items = [(f"{path}.{key}" if path else str(key), each) for key, each in value.items()]
    elif isinstance(value, list):
        items = [(f"{path}[{index}]", each) for index, each in enumerate(value)]
    if not items:
        leaves[path] = value
    for inner, each in items:
        _flatten(each, inner, leaves)


def _gather(value: Any, path: str, texts: dict[str, str]) -> None:
    if isinstance(value, dict):
        index = f"[{value['index']}]" if "index" in value else ""
        for key, each in value.items():
            _gather(each, f"{path}{index}.{key}", texts)
    elif isinstance(value, list):
        for each in value:
            _gather(each, path, texts)
    elif isinstance(value, str) and path.rpartition(".")[2] in _PIECES:
        texts[path] = texts.get(path, "") + value
