"""What the keys of one entry of `backends` must agree on: it names one engine, or one place where engines are found."""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.config.document import Document
from gateway.config.pool_schema import ORIGINS
from gateway.config.problems import KeyPath, Problem

_FOUND = ("file", "kubernetes", "inference_pool")
_GOES_WITH = {
    "port": ("dns",),
    "namespace": ("inference_pool",),
    "where": _FOUND,
    "max_concurrency_label": _FOUND,
}
"""Keys that mean something beside some origins alone."""


def entry_problems(document: Document, path: KeyPath, entry: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with an entry as a whole."""
    named = [key for key in ORIGINS if key in entry]
    if not named:
        yield document.problem(path, "`url` is missing", "for example `url: http://vllm-0:8000`")
    elif len(named) > 1:
        together = f"`{named[0]}` and `{named[1]}` cannot be used together"
        yield document.problem(path, together, "keep one of the two, and write an entry of its own for the other")
    if {"api_key", "api_key_file"} <= entry.keys():
        yield document.problem(path, "`api_key` and `api_key_file` cannot be used together", "keep one of the two")
    for key, origins in _GOES_WITH.items():
        if key in entry and len(named) == 1 and named[0] not in origins:
            hint = "the URL has it" if (key, named[0]) == ("port", "url") else f"it belongs to {_words(origins)}"
            if named[0] == "kubernetes" and key in {"port", "namespace"}:
                hint = f"write it inside: `kubernetes: {{service: ..., {key}: ...}}`"
            message = f"cannot be used together with `{named[0]}`"
            yield document.problem((*path, key), message, hint, at_key=True)


def origin_of(entry: Mapping[str, Any]) -> object:
    """Return where engines are found and which of them, as far as an entry says; None where it names none."""
    told = {key: str(value) for key, value in entry.items() if key in {*ORIGINS, "port", "namespace", "where"}}
    return tuple(sorted(told.items())) or None


def _words(origins: tuple[str, ...]) -> str:
    return " or ".join(f"`{each}`" for each in origins)
