"""How an engine says that it gave an answer up, although its status is 200 and it ends as a whole one does.

vLLM ends all that it is generating so when it is told to stop. On chat and completions it says that the finish reason
is "abort". A message then has no stop reason, and a response is whole by what it says of itself, unless there is not a
single token of it.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.exchange import Dialect

ABORTED: Final = re.compile(rb'"finish_reason"\s*+:\s*+"(?:abort|error)"')
"""A choice that was given up. What stands in a text has its quotes escaped."""
# These are looked for by `rfind`. `find` takes twice as long: it compares the last byte first, a quotation mark. `in`
# takes bytes for a number first, which costs four times the search.
ERROR: Final = b'"error"'
_ABORT: Final = b'"abort"'
_REASON: Final = re.compile(rb'"stop_reason"\s*+:\s*+"')
_UNFINISHED: Final = re.compile(rb'"stop_reason"\s*+:\s*+null|"output_tokens"\s*+:\s*+0\b')
_CANCELLED: Final = re.compile(rb'"status"\s*+:\s*+"cancelled"|"output_tokens"\s*+:\s*+0\b')


def document_given_up(dialect: Dialect, whole: bytes, *, says_error: bool = True) -> bool:
    """Whether a document says that the engine gave the answer up; false for what is no JSON.

    `says_error` is false where the caller has seen that `"error"` does not occur in it.
    """
    if dialect is Dialect.MESSAGES:
        message = {} if has_stop_reason(whole) else _read(whole)
        return message.get("type") == "message" and message.get("stop_reason") is None
    if dialect is Dialect.RESPONSES:
        return _CANCELLED.search(whole) is not None and _is_no_response(_read(whole))
    return has_aborted_choice(whole, says_error=says_error)


def event_given_up(dialect: Dialect, data: bytes, *, begun: bool) -> bool:
    """Whether an event without output says so: the one that ends a response, or the one that tells a stop reason.

    `begun` says that there has been output.
    """
    if dialect is Dialect.MESSAGES:
        return _UNFINISHED.search(data) is not None and _is_no_end(_read(data), begun)
    if dialect is Dialect.RESPONSES:
        return _CANCELLED.search(data) is not None and _is_no_response(_read(data).get("response"))
    return False


def has_aborted_choice(data: bytes, *, says_error: bool = True) -> bool:
    """Whether a choice of chat or completions was given up, by any part of the document that has its end.

    `says_error` is as for a whole document.
    """
    may_be = data.rfind(_ABORT) >= 0 or (says_error and data.rfind(ERROR) >= 0)
    return may_be and ABORTED.search(data) is not None


def gives_up(data: bytes, reason: int) -> bool:
    """Whether the finish reason that begins there, behind its quotation mark, says so."""
    given = data[reason - 1 : reason + len(ERROR) - 1]
    return given == _ABORT or given == ERROR  # noqa: PLR1714 - a set would be asked by hash


def has_stop_reason(part: bytes) -> bool:
    """Whether a part of a message says why it ended."""
    return _REASON.search(part) is not None


def _is_no_end(event: Mapping[str, Any], begun: bool) -> bool:
    """vLLM says "end_turn" of what it had not begun."""
    delta = event.get("delta")
    if event.get("type") != "message_delta" or not isinstance(delta, dict):
        return False
    return ("stop_reason" in delta and delta["stop_reason"] is None) or (not begun and _is_empty(event.get("usage")))


def _is_no_response(response: Any) -> bool:
    """Whether the engine cancelled a response or left it empty; clients cancel at another path, never here."""
    if not isinstance(response, dict):
        return False
    status = response.get("status")
    if status not in ("completed", "incomplete"):
        return status == "cancelled"
    return not response.get("output") and _is_empty(response.get("usage"))


def _is_empty(usage: Any) -> bool:
    """Whether tokens were counted, and there is none of the answer: even one that ends at once has its last."""
    return isinstance(usage, dict) and usage.get("output_tokens") == 0 and bool(usage.get("input_tokens"))


def _read(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (ValueError, RecursionError):
        return {}
