"""A table of routes on its way from one process to another, an entry at a time."""

import copyreg
import io
import pickle
from collections.abc import Generator, Iterator
from types import MappingProxyType
from typing import IO, Any

from gateway.config.problems import RoutesError
from gateway.config.table import RouteTable

_SECTIONS = ("pools", "models", "names", "classes", "tenants")
_SOURCES, _REFUSED, _END = "sources", "refused", "end"


def send(loaded: RouteTable | RoutesError, stream: IO[bytes]) -> None:
    """Write a table, or why there is none."""
    copyreg.pickle(MappingProxyType, _taken_apart)
    # One pickler for all: what entries share, they share on the other side too.
    pickler = pickle.Pickler(stream, pickle.HIGHEST_PROTOCOL)
    for entry in _entries(loaded):
        pickler.dump(entry)


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


def _taken_apart(mapping: Any) -> tuple[Any, ...]:
    return _put_together, (dict(mapping),)


def _put_together(entries: dict[Any, Any]) -> Any:
    return MappingProxyType(entries)
