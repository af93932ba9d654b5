"""Errors as Anthropic's clients read them, on the paths that speak their dialect."""

import re
from types import MappingProxyType
from typing import Any, Final

import msgspec

from gateway.errors import GatewayError
from gateway.wire.endpoints import MESSAGES

_PATH: Final = MESSAGES.decode()
_TYPES: Final = MappingProxyType(
    {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
)
_MOST_WORDS: Final = 2000
_CONTENT_TYPE: Final = re.compile(rb"\r\ncontent-type:[^\r\n]*", re.IGNORECASE)


def speaks(path: str) -> bool:
    """Whether the clients of a path read Anthropic's shape."""
    return path == _PATH or path.startswith((f"{_PATH}/", f"{_PATH}?"))


def shaped(status: int, message: str, request_id: str) -> dict[str, Any]:
    """Return an error in Anthropic's shape."""
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def body(error: GatewayError, path: str, request_id: str) -> dict[str, Any]:
    """Return the body of one of the gateway's own errors, as the clients of a path read it."""
    return shaped(error.status, error.message, request_id) if speaks(path) else error.body()


def passed_on(status: int, head: bytes, refusal: bytes, request_id: str) -> tuple[bytes, bytes]:
    """Return the head and body of an engine's refusal in Anthropic's shape; unchanged where it has that already."""
    try:
        said = msgspec.json.decode(refusal)
    except (ValueError, RecursionError):
        said = refusal.decode(errors="replace").strip()[:_MOST_WORDS]
    if isinstance(said, dict):
        inner = said.get("error")
        if said.get("type") == "error" and isinstance(inner, dict):
            return head, refusal
        if isinstance(inner, dict):
            said = inner
        said = said.get("message") or said.get("detail") or inner or ""
    words = said if isinstance(said, str) else msgspec.json.encode(said).decode()
    shape = shaped(status, words or f"the engine answered {status}", request_id)
    return _CONTENT_TYPE.sub(b"", head) + b"content-type: application/json\r\n", msgspec.json.encode(shape)
