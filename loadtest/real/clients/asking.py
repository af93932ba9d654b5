"""What all Python clients share: the questions, and a JSON line for each answer or error on standard output."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

MODEL = "tiny"
BASE, KEY = sys.argv[1], os.environ["REAL_KEY"]
WRONG_KEY = "sk-wrong"
MESSAGES = [{"role": "user", "content": "hi"}]
TOO_LONG = [{"role": "user", "content": "hello " * 5000}]
FIXED = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "seed": 1, "max_tokens": 16}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": CITY}}]
CALLING = {"tools": TOOLS, "tool_choice": "required", "max_tokens": 60}
STOP = ["o"]
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
BAD_TEMPERATURE = -3.0


def ask(name: str, call: Callable[[], Any]) -> None:
    """Print what a call returns, or how it fails."""
    try:
        line = {"ask": name, "answer": _plain(call())}
    except Exception as error:  # noqa: BLE001 - how each client fails is what is compared
        line = {"ask": name, "error": _told(error)}
    print(json.dumps(line), flush=True)


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Iterable):
        return [_plain(each) for each in value]
    return type(value).__name__


def _told(error: Exception) -> dict[str, Any]:
    fields = ("status_code", "message", "code", "type", "param", "body")
    return {"class": type(error).__name__} | {name: _plain(getattr(error, name, None)) for name in fields}
