"""Which HTTP status an engine's error object stands for, where it comes inside a 200."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_BY_NAME = MappingProxyType(
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
_CODES = ("code", "status", "status_code", "http_status_code")
_NAMES = ("type", "code", "error_type")


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
