"""Whole numbers in a request, read as vLLM reads them: by pydantic's rules, by which `"9"`, `9.0` and `9e0` are 9."""

import msgspec
from pydantic import TypeAdapter, ValidationError

from gateway.errors import InvalidRequest

LARGEST = 2**63 - 1
_decode_whole = msgspec.json.Decoder(int).decode
_read = TypeAdapter(int | None).validate_json


def whole_number(name: str, value: msgspec.Raw) -> int | None:
    """Return what a JSON value says as a whole number, None for null.

    Raises InvalidRequest for what an engine could not read either, and for numbers beyond 64 bits, which no engine has
    a use for.
    """
    try:
        number: int | None = _decode_whole(value)
    except msgspec.DecodeError:
        try:
            number = _read(bytes(value))
        except ValidationError:
            raise InvalidRequest(f"`{name}` must be a whole number", param=name) from None
    if number is not None and not -LARGEST <= number <= LARGEST:
        raise InvalidRequest(f"`{name}` is too large a number", param=name)
    return number
