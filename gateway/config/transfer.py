"""A table of routes on its way from one process to another, an entry at a time."""

import io
import pickle
from collections.abc import Generator, Iterator
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import IO, Any

from gateway.config.problems import RoutesError
from gateway.config.table import RouteTable

_SECTIONS = ("pools", "models", "names", "classes", "tenants", "budgets")
COMPLETE = b"complete"
"""What follows the last entry."""
_SOURCES, _REFUSED, _END = "sources", "refused", "end"


def send(loaded: RouteTable | RoutesError, stream: IO[bytes]) -> None:
    """Write a table, or why there is none."""
    # One pickler for all: what entries share, they share on the other side too.
    pickler = _Pickler(stream, pickle.HIGHEST_PROTOCOL)
    for entry in _entries(loaded):
        pickler.dump(entry)
    stream.write(COMPLETE)


def receive(data: bytes) -> Generator[None, None, RouteTable]:
    """Return the table that was sent, read in small pieces; raises RoutesError where there is none."""
    found: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    sources: tuple[str, ...] = ()
    unpickler = pickle.Unpickler(io.BytesIO(data))  # noqa: S301 - our own child wrote it
    while True:
        section, name, value = unpickler.load()
        if section == _END:
            return RouteTable(**{each: MappingProxyType(entries) for each, entries in found.items()}, sources=sources)
        if section == _REFUSED:
            raise RoutesError(name, value)
        if section == _SOURCES:
            sources = value
        else:
            found[section][name] = value
        yield


def _entries(loaded: RouteTable | RoutesError) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(loaded, RoutesError):
        yield _REFUSED, loaded.problems, loaded.secret_files
        return
    yield _SOURCES, "", loaded.sources
    for section in _SECTIONS:
        for name, value in getattr(loaded, section).items():
            yield section, name, value
    yield _END, "", None


class _Pickler(pickle.Pickler):
    """Takes apart what pickle itself cannot: read-only mappings, and frozen dataclasses that are compiled."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is put together again; NotImplemented for what pickle knows itself."""
        if isinstance(obj, MappingProxyType):
            return _read_only, (dict(obj),)
        if is_dataclass(obj) and not isinstance(obj, type):
            return _put_together, (type(obj), {each.name: getattr(obj, each.name) for each in fields(obj) if each.init})
        return NotImplemented


def _put_together(kind: Any, values: dict[str, Any]) -> Any:
    return kind(**values)


def _read_only(entries: dict[Any, Any]) -> Any:
    return MappingProxyType(entries)
