"""The allow-list: the only paths that ever reach an engine."""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qs

from gateway.errors import InvalidRequest
from gateway.exchange import BodyKind, Dialect, Endpoint

_ENDPOINTS = (
    Endpoint("/v1/chat/completions", "chat", Dialect.CHAT),
    Endpoint("/v1/completions", "text_completion", Dialect.COMPLETIONS),
    Endpoint("/v1/responses", "chat", Dialect.RESPONSES),
    Endpoint("/v1/messages", "chat", Dialect.MESSAGES),
    Endpoint("/v1/messages/count_tokens", "count_tokens"),
    Endpoint("/v1/embeddings", "embeddings"),
    Endpoint("/v1/rerank", "rerank"),
    Endpoint("/rerank", "rerank"),
    Endpoint("/v1/score", "score"),
    Endpoint("/score", "score"),
    Endpoint("/pooling", "pooling"),
    Endpoint("/classify", "classify"),
    Endpoint("/tokenize", "tokenize"),
    Endpoint("/detokenize", "detokenize"),
    Endpoint("/v1/audio/transcriptions", "transcription", Dialect.CHAT, BodyKind.MULTIPART, answers_json=False),
    Endpoint("/v1/audio/translations", "translation", Dialect.CHAT, BodyKind.MULTIPART, answers_json=False),
    Endpoint("/v1/audio/speech", "speech", answers_json=False),
    Endpoint("/v1/images/generations", "image_generation"),
    Endpoint("/v1/images/edits", "image_edit", body=BodyKind.MULTIPART),
    Endpoint("/v1/images/variations", "image_variation", body=BodyKind.MULTIPART),
)

FORWARDED: Final[Mapping[bytes, Endpoint]] = MappingProxyType(
    {endpoint.path.encode(): endpoint for endpoint in _ENDPOINTS}
)
"""Request target to endpoint, for POST. Compared as bytes: nothing is decoded, normalised or matched by prefix."""

RESPONSES_PREFIX: Final = b"/v1/responses/"
RETRIEVE: Final = Endpoint("/v1/responses/{id}", "retrieve_response", Dialect.RESPONSES, BodyKind.NONE, method=b"GET")
CANCEL: Final = Endpoint("/v1/responses/{id}/cancel", "cancel_response", Dialect.RESPONSES, BodyKind.NONE)
"""What is asked of a response that an engine keeps."""

OPERATIONS: Final[Mapping[str, str]] = MappingProxyType(
    {endpoint.path: endpoint.operation for endpoint in (*_ENDPOINTS, RETRIEVE, CANCEL)}
)
"""What is done at each path, in OpenTelemetry's words where it has some."""

_ID: Final = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
_STORED: Final = re.compile(rb"/v1/responses/(%b)(/cancel)?" % _ID.encode())
_STORED_ID: Final = re.compile(_ID)
_DIGITS: Final = 18
_YES: Final = frozenset(("1", "on", "t", "true", "y", "yes"))

MESSAGES: Final = b"/v1/messages"
"""How the paths begin whose clients read errors in Anthropic's shape."""

OPEN: Final = frozenset((b"/health", b"/ready"))
"""What this process tells anyone, key or none, for GET."""

LOCAL: Final = OPEN | {b"/v1/models"}
"""What this process answers itself, for GET."""

MODELS_PREFIX: Final = b"/v1/models/"
"""One model's card; its name, which may hold slashes, follows. Answered here as well."""

SERVED: Final = (
    f"served are POST {', '.join(endpoint.path for endpoint in (*_ENDPOINTS, CANCEL))}; "
    f"GET {', '.join(sorted(path.decode() for path in LOCAL))}, {MODELS_PREFIX.decode()}{{id}}, {RETRIEVE.path}"
)
"""The paths of the data listener, for a client that asked for another."""


def stored(path: bytes, query: bytes) -> Endpoint | None:
    """Return what a path asks of a stored response, with its own target; None where it names none.

    Of the query only `stream` and `starting_after` go on. Raises InvalidRequest.
    """
    match = _STORED.fullmatch(path)
    if match is None:
        return None
    if match[2]:
        return replace(CANCEL, target=path)
    return replace(RETRIEVE, target=path + (_wanted(query) if query else b""))


def stored_id(path: bytes) -> str:
    """Return the id in a path that `stored` knows."""
    return path.removeprefix(RESPONSES_PREFIX).partition(b"/")[0].decode("ascii")


def is_stored_id(text: str) -> bool:
    """Whether a path may name a response by this id."""
    return _STORED_ID.fullmatch(text) is not None


def _wanted(query: bytes) -> bytes:
    """Return the query that an engine gets: how a stream of events goes on, in its own words."""
    given = parse_qs(query.decode("latin-1"))
    if given.get("stream", [""])[-1].lower() not in _YES:
        return b""
    after = given.get("starting_after", [""])[-1]
    if not after:
        return b"?stream=true"
    if not (after.isascii() and after.isdigit() and len(after) <= _DIGITS):
        raise InvalidRequest("`starting_after` must be the number of an event", param="starting_after")
    return b"?stream=true&starting_after=%d" % int(after)
