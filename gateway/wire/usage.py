"""Token counts as engines tell them, read from the bytes of an answer's end without decoding the answer."""

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

NEAR: Final = 2048
_KEY: Final = re.compile(rb'"usage"\s*+:\s*+\{')
_PROMPT: Final = re.compile(rb'"(?:prompt|input)_tokens"\s*+:\s*+(\d{1,12}+)(?![\w.])')
_CACHED: Final = re.compile(
    rb'"(?:prompt|input)_tokens_details"\s*+:\s*+\{[^{}]{0,512}?"cached_tokens"\s*+:\s*+(\d{1,12}+)(?![\w.])'
)
_OUTPUT: Final = re.compile(rb'"(?:completion|output)_tokens"\s*+:\s*+(\d{1,12}+)(?![\w.])')
_USUAL: Final = b'"usage":{"prompt_tokens":'
_TOTAL: Final = b',"total_tokens":'
_COMPLETION: Final = b',"completion_tokens":'
"""As vLLM and OpenAI write it: compared and counted in place of three searches."""
_DETAILS: Final = b',"prompt_tokens_details":'
_NO_DETAILS: Final = b"null"
_MOST_DIGITS: Final = 12
_ZERO: Final = 0x30
_NINE: Final = 0x39
_COMMA: Final = 0x2C
_BRACE: Final = 0x7D


class Usage:
    """Tokens in and out, None where the engine did not tell, or told what is no count of tokens.

    `cached` are those of the prompt that the engine had in its cache.
    """

    __slots__ = ("cached", "output", "prompt")

    def __init__(self, prompt: int | None, output: int | None, cached: int | None = None) -> None:
        self.prompt: Final = prompt
        self.output: Final = output
        self.cached: Final = cached

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usage) and self._counts() == other._counts()

    def __hash__(self) -> int:
        return hash(self._counts())

    def __repr__(self) -> str:
        return f"Usage({self.prompt}, {self.output}, {self.cached})"

    def _counts(self) -> tuple[int | None, int | None, int | None]:
        return self.prompt, self.output, self.cached

    def updated(self, later: "Usage") -> "Usage":
        """Return what is known after `later` came: some dialects tell the prompt first and the output last."""
        return Usage(
            self.prompt if later.prompt is None else later.prompt,
            self.output if later.output is None else later.output,
            self.cached if later.cached is None else later.cached,
        )


def find_usage(data: bytes) -> Usage | None:
    """Return the last `usage` object in these bytes that has counts, without any where none has; None without one.

    A raw `"usage"` cannot stand inside a JSON string, but may be one: with an object behind it, it is a key. Its counts
    come within 2 KiB of it. What is negative, a fraction or a string is no count.
    """
    found = None
    at = data.rfind(b'"usage"')
    if at >= 0 and (usual := _usual(data, at)) is not None:
        return usual
    while at >= 0:
        if _KEY.match(data, at):
            prompt = _PROMPT.search(data, at, at + NEAR)
            output = _OUTPUT.search(data, at, at + NEAR)
            cached = _CACHED.search(data, at, at + NEAR)
            found = Usage(_found(prompt), _found(output), _found(cached))
            if prompt is not None or output is not None:
                break
        at = data.rfind(b'"usage"', 0, at)
    return found


def _found(match: re.Match[bytes] | None) -> int | None:
    return None if match is None else int(match[1])


def _usual(data: bytes, at: int) -> Usage | None:
    """Return the counts of a `usage` object that is written in the usual way, None for any other."""
    begin: i64 = at + len(_USUAL)
    if data[at:begin] != _USUAL:
        return None
    end: i64 = _digits(data, begin)
    prompt = _number(data, begin, end)
    begin = end + len(_TOTAL)
    if data[end:begin] == _TOTAL:
        end = _digits(data, begin)
        if _number(data, begin, end) < 0:
            return None
    begin = end + len(_COMPLETION)
    if prompt < 0 or data[end:begin] != _COMPLETION:
        return None
    end = _digits(data, begin)
    output = _number(data, begin, end)
    if output < 0 or end == len(data) or (data[end] != _COMMA and data[end] != _BRACE):
        return None
    return Usage(prompt, output, _cached(data, end))


def _cached(data: bytes, at: "i64") -> int | None:
    """Return how many tokens of the prompt were cached, where that stands here."""
    details: i64 = at + len(_DETAILS)
    if data[at:details] != _DETAILS or data[details : details + len(_NO_DETAILS)] == _NO_DETAILS:
        return None
    cached = _CACHED.match(data, at + 1)
    return None if cached is None else int(cached[1])


def _digits(data: bytes, at: "i64") -> "i64":
    """Return where the digits end that begin here."""
    size: i64 = len(data)
    while at < size:
        byte: i64 = data[at]
        if not _ZERO <= byte <= _NINE:
            break
        at += 1
    return at


def _number(data: bytes, at: "i64", end: "i64") -> int:
    """Return the number between two places, -1 where it has no digit or too many."""
    if not 0 < end - at <= _MOST_DIGITS:
        return -1
    number: i64 = 0
    while at < end:
        digit: i64 = data[at]
        number = 10 * number + digit - _ZERO
        at += 1
    return number
