"""What is believed of the rows in a state file: a clock that was wrong, or a flipped bit, may have written anything."""

from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any

from gateway.clock import past
from gateway.policy.slo.series import SeriesKey, SlotCounts
from gateway.state.store import Document, Ejection, Record, Response

_MOST = 1 << 53
"""No count is larger, and no slot is of a later time."""


def slots(rows: Iterable[tuple[Any, ...]], widths: Iterable[float]) -> Iterable[SlotCounts]:
    """Return counts, those of all processes together; the first and the last event lie within their slot."""
    return together(_slots(rows, frozenset(widths)))


def together(slots: Iterable[SlotCounts]) -> Iterable[SlotCounts]:
    """Return one of each slot, with the sum of what was counted there."""
    found: dict[tuple[SeriesKey, float, int], SlotCounts] = {}
    for each in slots:
        key = each.series, each.width, each.slot
        found[key] = each if key not in found else _together(found[key], each)
    return found.values()


def _together(one: SlotCounts, other: SlotCounts) -> SlotCounts:
    return one._replace(
        good=one.good + other.good,
        bad=one.bad + other.bad,
        first=min(one.first, other.first),
        last=max(one.last, other.last),
    )


def _slots(rows: Iterable[tuple[Any, ...]], known: frozenset[float]) -> Iterator[SlotCounts]:
    for *series, width, slot, good, bad, first, last in rows:
        numbers = (slot, good, bad)
        if not (_are_texts(series) and all(isinstance(each, int) and 0 <= each < _MOST for each in numbers)):
            continue
        if width not in known or (slot + 1) * width >= _MOST:
            continue
        begins, ends = float(slot * width), float((slot + 1) * width)
        earliest = _within(first, begins, ends, begins)
        latest = _within(last, earliest, ends, ends)
        yield SlotCounts(SeriesKey(*series), width, slot, good, bad, earliest, latest)


def ejections(rows: Iterable[tuple[Any, ...]]) -> Iterator[Ejection]:
    """Return ejections whose times are times; how long one can last its restorer knows."""
    for backend, at, until, reason in rows:
        if _are_texts((backend, reason)) and _is_time(at) and _is_time(until):
            yield Ejection(backend, float(at), float(until), reason)


def documents(rows: Iterable[tuple[Any, ...]]) -> Iterator[Document]:
    """Return documents; whether a body is one its reader finds out."""
    return (Document(*row) for row in rows if _are_texts(row))


def records(rows: Iterable[tuple[Any, ...]], now: float) -> Iterator[Record]:
    """Return records, none of them of a time to come."""
    for at, *words in rows:
        if _are_texts(words) and _is_time(at):
            yield Record(past(at, now), *words)


def responses(rows: Iterable[tuple[Any, ...]], now: float) -> Iterator[Response]:
    """Return responses, none of them of a time to come."""
    for at, *words in rows:
        if _are_texts(words) and _is_time(at):
            yield Response(past(at, now), *words)


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(each, str) for each in values)


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < _MOST and isfinite(value)


def _within(value: Any, low: float, high: float, otherwise: float) -> float:
    return float(value) if _is_time(value) and low <= value <= high else otherwise
