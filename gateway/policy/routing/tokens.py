"""How many prompt tokens a body is likely to hold, before any tokenizer has seen it."""

_FORGETTING = 0.98
_USUAL_BYTES_PER_TOKEN = 4.0
_TRUST = 5.0


class TokenEstimate:
    """Bytes per prompt token of one model, learnt from what engines report; images and JSON count as bytes too."""

    __slots__ = ("_bytes", "_tokens")

    def __init__(self) -> None:
        self._tokens = _TRUST
        self._bytes = _TRUST * _USUAL_BYTES_PER_TOKEN

    def tokens(self, size: int) -> int:
        """Return the likely number of prompt tokens, at least 1, in a body of `size` bytes."""
        return max(1, int(size * self._tokens / self._bytes))

    def observe(self, size: int, tokens: int) -> None:
        """Learn that a body of `size` bytes held so many tokens; each sample weighs the same, whatever its length."""
        if size > 0 and tokens > 0:
            self._tokens = self._tokens * _FORGETTING + tokens / size
            self._bytes = self._bytes * _FORGETTING + 1.0
