"""Errors in the exact shapes that vLLM answers with."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

ENGINE_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."
BUSY = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
_TYPES = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"}


class ApiError(Exception):
    """An answer `{"error": {message, type, param, code}}`; the type follows from the status unless given."""

    def __init__(self, status: int, message: str, *, param: str | None = None, kind: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(status, message, param=param, kind=kind)


def error_body(status: int, message: str, *, param: str | None = None, kind: str | None = None) -> dict[str, Any]:
    """Return an error object in the shape that vLLM uses."""
    kind = kind or _TYPES.get(status) or HTTPStatus(status).phrase
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def refused_value(message: str, parameter: str, value: object) -> ApiError:
    """Return the error for a sampling parameter that is out of range."""
    return ApiError(400, f"{message} (parameter={parameter}, value={value})", param=parameter)


def validation_error(problems: Sequence[dict[str, Any]]) -> ApiError:
    """Return the error for a body that does not fit the schema, worded as vLLM words FastAPI's validation errors."""
    count = len(problems)
    lines = "".join(f"\n  {_problem(problem)}" for problem in problems)
    message = f"{count} validation error{'s' if count > 1 else ''}:{lines}"
    return ApiError(400, message, param=_place(problems[0]["loc"]), kind="Bad Request")


def _problem(problem: dict[str, Any]) -> dict[str, Any]:
    shown = {
        "type": problem["type"],
        "loc": _place(problem["loc"]),
        "msg": problem["msg"],
        "input": _summary(problem["input"]),
    }
    if problem.get("ctx"):
        shown["ctx"] = {name: str(value) for name, value in problem["ctx"].items()}
    return shown


def _summary(value: object) -> object:
    if isinstance(value, dict | list):
        return f"<{type(value).__name__} of {len(value)} items>"
    return value


def _place(location: Sequence[str | int]) -> str:
    return ".".join(["body", *(str(part) for part in location)])
