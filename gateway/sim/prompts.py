"""Prompts as the simulated tokenizer sees them: bytes, four to a token."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.sim.text import BYTES_PER_TOKEN, count_tokens

_TEMPLATE = b"<|%b|>\n%b<|end|>\n"
_IMAGE_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt; equal beginnings of two prompts' bytes can share KV blocks."""

    data: bytes

    @property
    def tokens(self) -> int:
        """Its length as the engine counts it."""
        return count_tokens(self.data)


def chat_prompt(messages: Iterable[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> Prompt:
    """Return a conversation as a chat template renders it, tools first."""
    head = _TEMPLATE % (b"tools", json.dumps(list(tools)).encode()) if tools else b""
    turns = (_TEMPLATE % (str(message.get("role", "")).encode(), _content(message)) for message in messages)
    return Prompt(head + b"".join(turns) + b"<|assistant|>\n")


def text_prompts(given: str | Sequence[int] | Sequence[str] | Sequence[Sequence[int]]) -> list[Prompt]:
    """Return the prompts of a request that may hold one or many, as text or as token ids."""
    if isinstance(given, str):
        return [Prompt(given.encode())]
    if given and isinstance(given[0], int):
        return [Prompt(join_tokens(token for token in given if isinstance(token, int)))]
    return [prompt for item in given if isinstance(item, str | list) for prompt in text_prompts(item)]


def split_tokens(data: bytes) -> list[int]:
    """Return the token ids of some bytes; `join_tokens` is the inverse, except for trailing NULs."""
    return [
        int.from_bytes(data[start : start + BYTES_PER_TOKEN], "little")
        for start in range(0, len(data), BYTES_PER_TOKEN)
    ]


def join_tokens(tokens: Iterable[int]) -> bytes:
    """Return the bytes that token ids stand for."""
    return b"".join((token & 0xFFFFFFFF).to_bytes(BYTES_PER_TOKEN, "little") for token in tokens)


def _content(message: Mapping[str, Any]) -> bytes:
    content = message.get("content")
    calls = message.get("tool_calls")
    text = json.dumps(calls).encode() if calls else b""
    if isinstance(content, str):
        return content.encode() + text
    if isinstance(content, list):
        return b"".join(_part(part) for part in content) + text
    return text


def _part(part: object) -> bytes:
    if not isinstance(part, Mapping):
        return str(part).encode()
    if "text" in part:
        return str(part["text"]).encode()
    if part.get("type") in ("image_url", "image", "input_image", "input_audio", "video_url"):
        digest = hashlib.blake2b(json.dumps(part).encode(), digest_size=BYTES_PER_TOKEN).digest()
        return digest * _IMAGE_TOKENS
    return json.dumps(part).encode()
