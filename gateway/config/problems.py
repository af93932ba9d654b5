"""What can be wrong with route files, said so that the reader knows where to look and what to write."""

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Mapping keys and list positions from the top of a file: `("pools", "gpu", "backends", 0)`."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_COMPARED = 128
_MOST_COMPARED = 500
_MOST_LISTED = 20


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in one place, and in `hint` how to fix it.

    `line` and `column` count from 1; `path` is empty when the whole file is meant.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        text = _printable(f"{self.file}:{self.line}:{self.column}: {path}{self.message}")
        return f"{text}\n  hint: {_printable(self.hint)}" if self.hint else text


class RoutesError(Exception):
    """Route files that cannot be used, with every problem found in them, sorted by file and line.

    `secret_files` are the files that secrets were to come from.
    """

    def __init__(self, problems: Iterable[Problem], secret_files: Iterable[str] = ()) -> None:
        self.problems = tuple(sorted(set(problems)))
        self.secret_files = tuple(sorted(secret_files))
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))

    @property
    def summary(self) -> str:
        """How many problems there are, and what follows from them, as the last line."""
        count = len(self.problems)
        return f"{count} problem{'s' if count > 1 else ''}: these routes cannot be served"


class InvalidValueError(ValueError):
    """One value that cannot be used. The texts follow its path, or itself, in a sentence and never contain it.

    `{shown}` in `hint` is replaced by the value as the file writes it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def _printable(text: str) -> str:
    """Escape control characters, so that a route file cannot send escape sequences to a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def suggest(word: str, known: Iterable[str], label: str) -> str:
    """Return a hint for an unknown name: "did you mean ...?" if one is close, then the names that do exist."""
    names = sorted(set(known))
    close = closest(word, names)
    question = f"did you mean `{close}`? " if close else ""
    rest = ", ..." if len(names) > _MOST_LISTED else ""
    return f"{question}{label}: {', '.join(names[:_MOST_LISTED]) or 'none'}{rest}"


def closest(word: str, names: Sequence[str]) -> str:
    """Return the name that was probably meant, "" where none is close, or there are too many to compare."""
    if len(word) > _LONGEST_COMPARED or len(names) > _MOST_COMPARED:
        return ""
    close = difflib.get_close_matches(word, names, n=1) or _sharing_words(word, names)
    return close[0] if close else ""


def _sharing_words(word: str, names: Iterable[str]) -> list[str]:
    """Return the only name with all words of `word`, or with no others: `key` for `key_sha256`."""
    words = set(word.split("_"))
    found = [name for name in names if words <= (others := set(name.split("_"))) or others <= words]
    return found if len(found) == 1 else []


def path_text(path: KeyPath) -> str:
    """`models.llama.versions.v1.pools[0]`; keys with other characters than letters, digits, `_` and `-` are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _PLAIN_KEY.fullmatch(part) else json.dumps(part)
            text += f".{key}" if text else key
    return text
