"""Durations as people write them: one number and one unit."""

import re
from decimal import Decimal

from gateway.config.problems import InvalidValueError

_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
_LONGEST = 365 * 86_400.0

PATTERN = rf"^{_NUMBER}(ms|s|m|h|d)$"


def parse_duration(value: object) -> float:
    """Seconds in `250ms`, `2s`, `10m`, `1h` or `28d`, from 0 to 365 days. Raises InvalidValueError."""
    text = value if isinstance(value, str) else ""
    if re.fullmatch(_NUMBER, text):
        raise InvalidValueError("has no unit", "write `{shown}s` or `{shown}ms`; units are ms, s, m, h, d")
    match = _DURATION.fullmatch(text)
    if match is None and _DURATION.fullmatch("".join(text.split())):
        raise InvalidValueError("is not a duration", "write no space before the unit: `500ms`, `2s`, `10m`")
    if match is None:
        raise InvalidValueError(
            "is not a duration", "write one number and one unit (ms, s, m, h or d): `250ms`, `2s`, `10m`"
        )
    seconds = float(Decimal(match[1]) * _MILLISECONDS[match[2]] / 1000)
    if seconds > _LONGEST:
        raise InvalidValueError("is longer than 365 days", "write a shorter duration")
    return seconds


def parse_timeout(value: object) -> float:
    """As `parse_duration`, and longer than zero."""
    return _longer_than_zero(value, "would time out at once", "write a duration longer than zero")


def readable_timeout(value: object) -> float | None:
    """As `parse_timeout`; None for what it refuses, of which others have told already."""
    try:
        return parse_timeout(value)
    except InvalidValueError:
        return None


def parse_threshold(value: object) -> float:
    """As `parse_duration`, and longer than zero."""
    return _longer_than_zero(value, "could never be met", "write a duration longer than zero")


def parse_ejection_time(value: object) -> float:
    """As `parse_duration`, and longer than zero."""
    return _longer_than_zero(value, "would end at once", "`max_ejection_percent: 0` ejects no backend")


def parse_slo_window(value: object) -> float:
    """As `parse_duration`, from 7 to 90 days."""
    seconds = parse_duration(value)
    if not 7 * 86_400 <= seconds <= 90 * 86_400:
        raise InvalidValueError("is not a valid SLO window", "write 7d to 90d; 28d is usual")
    return seconds


def format_duration(seconds: float) -> str:
    """Write a duration in the largest unit that keeps the number whole; `parse_duration` returns exactly `seconds`."""
    milliseconds = Decimal(repr(seconds)) * 1000
    for unit, size in reversed(_MILLISECONDS.items()):
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds / size:.0f}{unit}"
    return f"{Decimal(repr(seconds)):f}s"


def _longer_than_zero(value: object, zero: str, instead: str) -> float:
    """As `parse_duration`; `zero` says why none is refused, `instead` what to write."""
    seconds = parse_duration(value)
    if not seconds:
        raise InvalidValueError(zero, instead)
    return seconds
