"""Environment variables in route files: `${NAME}` and `${NAME:-default}`.

Expanded after parsing, and once, so that no value can add structure or more variables.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.config.document import Document, MappingNode, Node, ScalarNode, SequenceNode
from gateway.config.problems import InvalidValueError, KeyPath, Problem
from gateway.config.sources import clean_secret, read_secret

PATTERN = r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"
REFERENCE_PATTERN = r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$"
SECRET_KEYS = frozenset(("api_key",))
SECRET_FILE_KEYS = frozenset(("api_key_file",))
TARGETS_KEY = "file"
"""Of an item in a list: a file that is named relative to the route file."""

_VARIABLE = re.compile(r"\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")
_REST_OF_NUMBER = re.compile("[0-9]{3}")
"""The key that `1,000` in a mapping in braces ends with."""
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def expand(text: str, environ: Mapping[str, str]) -> str:
    """`text` with its variables replaced; a default stands in for an unset or empty one. Raises InvalidValueError."""

    def value_of(match: re.Match[str]) -> str:
        name, default = match.groups()
        if name is None:
            raise InvalidValueError(
                "has a `${` that does not start a variable", "write `${NAME}` or `${NAME:-default}`"
            )
        value = environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise _not_set(name, f"write `${{{name}:-default}}`")
        return value

    return _VARIABLE.sub(value_of, text)


@dataclass(frozen=True, slots=True)
class Values:
    """A document as dicts, lists and strings: variables expanded, `api_key_file` replaced by what the file holds.

    A value that has a problem of its own is None. `secret_files` are the files that were read.
    """

    plain: dict[str, Any]
    problems: dict[KeyPath, Problem] = field(default_factory=dict)
    secret_files: tuple[str, ...] = ()


def plain_values(document: Document, environ: Mapping[str, str]) -> Values:
    """Return the values of one document, with variables expanded and secrets read."""
    reading = _Reading(document, environ)
    values = {key: reading.plain(node, (key,)) for key, (_, node) in document.root.entries.items()}
    return Values(values, reading.problems, tuple(reading.secret_files))


class _Reading:
    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self._document = document
        self._environ = environ
        self.problems: dict[KeyPath, Problem] = {}
        self.secret_files: list[str] = []

    def plain(self, node: Node, path: KeyPath) -> Any:
        match node:
            case MappingNode():
                return {key: self.plain(value, (*path, key)) for key, (_, value) in node.entries.items()}
            case SequenceNode():
                return [self.plain(item, (*path, position)) for position, item in enumerate(node.items)]
        try:
            text = _text(node, path[-1], self._environ)
            folder = Path(self._document.file).parent
            if path[-1] == TARGETS_KEY and isinstance(path[-2], int):
                # Errors and /admin/status are read in other folders than the one that the gateway runs in.
                return str((folder / text).absolute())
            if path[-1] not in SECRET_FILE_KEYS:
                return text
            self.secret_files.append(str(folder / text))
            # The hint does not name the file: it may be the secret itself, written where its file should be.
            return read_secret(folder / text, f"name a file, relative to {folder.absolute()}")
        except InvalidValueError as error:
            self.problems[path] = self._document.problem(path, error.message, error.hint)
            return None


def _text(node: ScalarNode, key: str | int, environ: Mapping[str, str]) -> str:
    if node.is_null:
        of_number = isinstance(key, str) and _REST_OF_NUMBER.fullmatch(key)
        hint = "write numbers without commas: `1000000`" if of_number else "write one, or delete the line"
        raise InvalidValueError("has no value", hint)
    if key not in SECRET_KEYS:
        return expand(node.text, environ)
    reference = _REFERENCE.fullmatch(node.text)
    if reference is None:
        raise InvalidValueError(
            "a secret must not be written in the file", f"write `{key}: ${{NAME}}`, or use `{key}_file`"
        )
    if reference[1] not in environ:
        raise _not_set(reference[1], f"use `{key}_file`")
    return clean_secret(environ[reference[1]])


def _not_set(name: str, alternative: str) -> InvalidValueError:
    return InvalidValueError(f"the environment variable `{name}` is not set", f"set it, or {alternative}")
