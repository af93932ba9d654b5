"""Token counts as engines tell them, read from the bytes of an answer's end without decoding the answer."""

import re
from typing import Final

NEAR: Final = 2048
_KEY: Final = re.compile(rb'"usage"\s*+:\s*+\{')
_PROMPT: Final = re.compile(rb'"(?:prompt|input)_tokens"\s*+:\s*+(\d{1,12}+)(?![\w.])')
_OUTPUT: Final = re.compile(rb'"(?:completion|output)_tokens"\s*+:\s*+(\d{1,12}+)(?![\w.])')


_USUAL: Final = re.compile(
    rb'"usage":\{"prompt_tokens":(\d{1,12}+),(?:"total_tokens":\d{1,12}+,)?"completion_tokens":(\d{1,12}+)[,}]'
)
"""As vLLM and OpenAI write it: one match instead of three searches."""


class Usage:
    """Tokens in and out, None where the engine did not tell, or told what is no count of tokens."""

    __slots__ = ("output", "prompt")

    def __init__(self, prompt: int | None, output: int | None) -> None:
        self.prompt: Final = prompt
        self.output: Final = output

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usage) and self.prompt == other.prompt and self.output == other.output

    def __hash__(self) -> int:
        return hash((self.prompt, self.output))

    def __repr__(self) -> str:
        return f"Usage({self.prompt}, {self.output})"

    def updated(self, later: "Usage") -> "Usage":
        """Return what is known after `later` came: some dialects tell the prompt first and the output last."""
        return Usage(
            self.prompt if later.prompt is None else later.prompt,
            self.output if later.output is None else later.output,
        )


def find_usage(data: bytes) -> Usage | None:
    """Return the last `usage` object in these bytes that has counts, without any where none has; None without one.

    A raw `"usage"` cannot stand inside a JSON string, but may be one: with an object behind it, it is a key. Its counts
    come within 2 KiB of it. What is negative, a fraction or a string is no count.
    """
    found = None
    at = data.rfind(b'"usage"')
    if at >= 0 and (usual := _USUAL.match(data, at)) is not None:
        return Usage(int(usual[1]), int(usual[2]))
    while at >= 0:
        if _KEY.match(data, at):
            prompt = _PROMPT.search(data, at, at + NEAR)
            output = _OUTPUT.search(data, at, at + NEAR)
            found = Usage(int(prompt[1]) if prompt else None, int(output[1]) if output else None)
            if prompt is not None or output is not None:
                break
        at = data.rfind(b'"usage"', 0, at)
    return found
