"""What a document tells on its way: how many tokens it took, and whether its engine gave it up."""

from typing import Final

from gateway.exchange import Dialect, Exchange
from gateway.wire.given_up import has_aborted_choice, has_stop_reason
from gateway.wire.usage import NEAR, find_usage

_OVERLAP: Final = NEAR + 64
"""More than a `usage` object spans, which may begin in one piece and end in the next."""


class DocumentScan:
    """Looks at a long document piece by piece, for what may stand anywhere in it."""

    __slots__ = ("_exchange", "_needs_reason", "_tail", "aborted")

    def __init__(self, dialect: Dialect, exchange: Exchange) -> None:
        self._exchange = exchange
        self._needs_reason = dialect is Dialect.MESSAGES
        self._tail = b""
        self.aborted = self._needs_reason

    def __repr__(self) -> str:
        return f"<DocumentScan {'aborted' if self.aborted else 'well'} so far>"

    def look_at(self, piece: bytes) -> None:
        """Look at a piece, and at what it completes of the one before."""
        window = self._tail + piece if self._tail else piece
        self._tail = window[-_OVERLAP:]
        if self._needs_reason:
            self.aborted = self.aborted and not has_stop_reason(window)
        else:
            self.aborted = self.aborted or has_aborted_choice(window)
        note_usage(self._exchange, window)


def note_usage(exchange: Exchange, window: bytes) -> None:
    """Note the token counts that stand in a document, or in a part of one."""
    usage = find_usage(window)
    if usage is not None and (usage.prompt is not None or usage.output is not None):
        exchange.prompt_tokens, exchange.output_tokens = usage.prompt, usage.output
        exchange.cached_tokens = usage.cached
