"""The messages of KEDA's `externalscaler.proto`, as bytes: few and small, so that no generated code is needed.

Protocol buffers (protobuf.dev/programming-guides/encoding): fields are a varint of number and type, then the value.
Fields that are not known are skipped, and those that have their default are left out.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5
_LONGEST_VARINT = 10


class MessageError(ValueError):
    """Bytes that are no message."""


@dataclass(frozen=True, slots=True)
class ScaledObjectRef:
    """What KEDA scales: an object's name and namespace, and the metadata of its trigger."""

    name: str = ""
    namespace: str = ""
    metadata: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, data: bytes) -> "ScaledObjectRef":
        """Return one from its bytes; raises MessageError."""
        name, namespace, metadata = "", "", {}
        for number, value in _fields(data):
            if number == 1:
                name = _text(value)
            elif number == 2:
                namespace = _text(value)
            elif number == 3:
                entry = {each: _text(part) for each, part in _fields(_part(value)) if each in {1, 2}}
                metadata[entry.get(1, "")] = entry.get(2, "")
        return cls(name, namespace, metadata)


@dataclass(frozen=True, slots=True)
class MetricsRequest:
    """Which metric of which object KEDA asks for."""

    scaled_object: ScaledObjectRef = field(default_factory=ScaledObjectRef)
    metric: str = ""

    @classmethod
    def read(cls, data: bytes) -> "MetricsRequest":
        """Return one from its bytes; raises MessageError."""
        scaled_object, metric = ScaledObjectRef(), ""
        for number, value in _fields(data):
            if number == 1:
                scaled_object = ScaledObjectRef.read(_part(value))
            elif number == 2:
                metric = _text(value)
        return cls(scaled_object, metric)


def active(*, is_active: bool) -> bytes:
    """Return an IsActiveResponse."""
    return b"\x08\x01" if is_active else b""


def metric_spec(name: str, target: float) -> bytes:
    """Return a GetMetricSpecResponse with one metric; its target is told as a whole number too, for old KEDAs."""
    return _message(1, _message(1, name.encode()) + _whole(2, round(target)) + _real(3, target))


def metric_value(name: str, value: float) -> bytes:
    """Return a GetMetricsResponse with one value; it is told rounded up as a whole number too, for old KEDAs."""
    return _message(1, _message(1, name.encode()) + _whole(2, -int(-value // 1)) + _real(3, value))


def _message(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _whole(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value) if value else b""


def _real(number: int, value: float) -> bytes:
    return _varint(number << 3 | _DOUBLE) + struct.pack("<d", value) if value else b""


def _varint(value: int) -> bytes:
    """Return a number from 0 on."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield every field by its number; raises MessageError."""
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _number(data, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, at = _number(data, at)
        elif kind in {_DOUBLE, _FLOAT}:
            length = 8 if kind == _DOUBLE else 4
        else:
            raise MessageError(f"a field of type {kind}")
        if at + length > len(data):
            raise MessageError("it is cut")
        yield key >> 3, data[at : at + length]
        at += length


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST_VARINT):
        if at >= len(data):
            raise MessageError("it is cut")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at
    raise MessageError("a number is too long")


def _part(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise MessageError("a number where a message or text should be")
    return value


def _text(value: int | bytes) -> str:
    try:
        return _part(value).decode()
    except UnicodeDecodeError as error:
        raise MessageError("a text is not UTF-8") from error
