"""What people and CD systems send to the admin listener."""

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, field_validator

from gateway.admin.protection import error

_TOLD = 5
"""How many of the faults of one request are told."""


class Sent(BaseModel):
    """A body of a request; its texts are ones that can be written again."""

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        """Refuse half a surrogate pair, which JSON can escape and no UTF-8 can hold."""
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("it holds half a surrogate pair") from None
        return value


async def not_valid(_: Request, exc: Exception) -> JSONResponse:
    """Say what is wrong, without what was sent: that may hold what no JSON can, as infinity or half a character."""
    found = exc.errors() if isinstance(exc, RequestValidationError) else []
    words = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found[:_TOLD])
    return error(422, "invalid_request", words.encode(errors="replace").decode() or "it cannot be read")
