"""The allow-list: the only paths that ever reach an engine."""

from collections.abc import Mapping
from types import MappingProxyType

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

FORWARDED: Mapping[bytes, Endpoint] = MappingProxyType({endpoint.path.encode(): endpoint for endpoint in _ENDPOINTS})
"""Request target to endpoint, for POST. Compared as bytes: nothing is decoded, normalised or matched by prefix."""

MESSAGES = b"/v1/messages"
"""How the paths begin whose clients read errors in Anthropic's shape."""

OPEN = frozenset((b"/health", b"/ready"))
"""What this process tells anyone, key or none, for GET."""

LOCAL = OPEN | {b"/v1/models"}
"""What this process answers by itself, for GET."""

MODELS_PREFIX = b"/v1/models/"
"""One model's card; its name, which may hold slashes, follows. Answered here as well."""
