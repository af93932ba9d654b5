"""Numbers and flags in a request, read as vLLM reads them: by pydantic's rules, by which `"9"` and `9e0` are 9."""

from types import MappingProxyType
from typing import Final

import msgspec
from pydantic import TypeAdapter, ValidationError

from gateway.errors import InvalidRequest

LARGEST: Final = 2**63 - 1
_USUAL: Final = 2**61
"""Below it compiled code compares in registers."""
_decode_whole: Final = msgspec.json.Decoder(int).decode
_read: Final = TypeAdapter(int | None).validate_json
_read_flag: Final = TypeAdapter(bool | None).validate_json
_LITERALS: Final = MappingProxyType({b"true": True, b"false": False, b"null": None})


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
    if number is not None and not -_USUAL < number < _USUAL and not -LARGEST <= number <= LARGEST:
        raise InvalidRequest(f"`{name}` is too large a number", param=name)
    return number


def flag(raw: bytes) -> bool | None:
    """Return what a JSON value says as a flag (`"true"`, `1` and `"yes"` say true); None for null.

    Raises ValueError for what an engine could not read either.
    """
    return _LITERALS[raw] if raw in _LITERALS else _read_flag(raw)
