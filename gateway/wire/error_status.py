"""Which HTTP status an engine's error object stands for, where it comes inside a 200."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

_BY_NAME: Final = MappingProxyType(
    {
        # Anthropic's types
        "invalid_request_error": 400,
        "authentication_error": 401,
        "billing_error": 403,
        "permission_error": 403,
        "not_found_error": 404,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "timeout_error": 504,
        "overloaded_error": 503,
        # OpenAI's codes and types
        "context_length_exceeded": 400,
        "invalid_prompt": 400,
        "invalid_api_key": 401,
        "model_not_found": 404,
        "insufficient_quota": 429,
        "rate_limit_exceeded": 429,
        "requests": 429,
        "tokens": 429,
        "overloaded": 503,
        "service_unavailable": 503,
        # vLLM's and SGLang's types
        "badrequesterror": 400,
        "unauthorized": 401,
        "permissiondeniederror": 403,
        "notfounderror": 404,
        "unprocessableentityerror": 422,
        "ratelimiterror": 429,
        "serviceunavailableerror": 503,
        # Text Generation Inference's types
        "validation": 422,
    }
)
_CODES: Final[tuple[str, ...]] = ("code", "status", "status_code", "http_status_code")
_NAMES: Final[tuple[str, ...]] = ("type", "code", "error_type")
_STRING: Final = rb'"(?:[^"\\]|\\.)*+"'
_PLAIN: Final = rb"(?:%b|[\w.+-]++|\[\s*+\]|\{\s*+\})" % _STRING
_BEGINS_AS_ERROR: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+\{(?:\s*+%b\s*+:\s*+%b\s*+,)*?\s*+" % (_STRING, _PLAIN)
    + rb'(?:"error"\s*+:\s*+(?:"(?!")|[{\[](?!\s*+[}\]]))|"(?:object|type)"\s*+:\s*+"(?:error|response\.failed)")'
)


def error_code(data: bytes) -> int:
    """Return the HTTP status that a document or an event stands for, and 0 when it is no error.

    An error that names none is 500, and so is one that cannot be read.
    """
    try:
        event = msgspec.json.decode(data, type=dict[str, Any])
    except (ValueError, RecursionError):  # no JSON, no UTF-8, a number that nothing holds; too deep
        return 500 if begins_as_error(data) else 0
    return error_status(event)


def begins_as_error(beginning: bytes) -> bool:
    """Whether a document of which there is only a beginning, or which cannot be read, is an error object.

    Nothing but strings, numbers and the like stands before what says so.
    """
    return _BEGINS_AS_ERROR.match(beginning) is not None


def error_status(event: Mapping[str, Any]) -> int:
    """Return the status that an event or an answer stands for: 0 when it is no error, 500 for one that names none."""
    if event.get("type") == "response.failed":
        response = event.get("response")
        error = (response.get("error") if isinstance(response, dict) else None) or {}
    elif event.get("object") == "error" or event.get("type") == "error":
        error = event.get("error") or event
    else:
        error = event.get("error")
        if not error:
            return 0
    if isinstance(error, str):
        return _named({"type": error, "error_type": event.get("error_type"), "code": event.get("code")})
    return _named(error) if isinstance(error, dict) else 500


def _named(error: Mapping[str, Any]) -> int:
    for key in _CODES:
        code = error.get(key)
        if isinstance(code, str) and code.isascii() and code.isdigit():
            code = int(code[:4])
        if isinstance(code, int) and 400 <= code < 600:
            return code
    for key in _NAMES:
        name = error.get(key)
        if isinstance(name, str) and (status := _BY_NAME.get(name.lower().replace(" ", ""))) is not None:
            return status
    return 500
