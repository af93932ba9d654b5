"""How many prompt tokens a body is likely to hold, before any tokenizer has seen it."""

from typing import Final

_FORGETTING: Final = 0.98
_USUAL_BYTES_PER_TOKEN: Final = 4.0
_TRUST: Final = 5.0
_USUAL_OUTPUT: Final = 256.0


class TokenEstimate:
    """Bytes per prompt token of one model, learnt from what engines report about bodies of text alone.

    `error` is how far off estimates have been of late, as a ratio (mean absolute percentage error); None before any.
    `output` is the mean of answers' tokens.
    """

    __slots__ = ("_bytes", "_tokens", "error", "output")

    def __init__(self) -> None:
        self.error: float | None = None
        self.output = _USUAL_OUTPUT
        self._tokens = _TRUST
        self._bytes = _TRUST * _USUAL_BYTES_PER_TOKEN

    def tokens(self, size: int) -> int:
        """Return the likely number of prompt tokens, at least 1, in a body of `size` bytes."""
        return max(1, int(size * self._tokens / self._bytes))

    def observe(self, size: int, tokens: int) -> None:
        """Learn that a body of `size` bytes held so many tokens; each sample weighs the same, whatever its length."""
        if size > 0 and tokens > 0:
            estimate = int(size * self._tokens / self._bytes) or 1  # as `tokens`, without its call
            off = abs(estimate - tokens) / tokens
            self.error = off if self.error is None else self.error * _FORGETTING + off * (1 - _FORGETTING)
            self._tokens = self._tokens * _FORGETTING + tokens / size
            self._bytes = self._bytes * _FORGETTING + 1.0

    def answered(self, tokens: int) -> None:
        """Learn how long an answer was, in tokens."""
        self.output += (1 - _FORGETTING) * (tokens - self.output)
