"""Reads route files, and the secrets they point to, as whole and unchanging texts."""

import re
import stat
from dataclasses import dataclass
from pathlib import Path

from gateway.config.problems import InvalidValueError, Problem, RoutesError

MAX_BYTES = 1 << 20
_MAX_SECRET_BYTES = 8192
_ATTEMPTS = 3
_SUFFIXES = (".yaml", ".yml")
_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")

_Snapshot = dict[Path, tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Source:
    """One route file and its text."""

    file: str
    text: str


def read_sources(path: Path) -> tuple[list[Source], list[Problem]]:
    """Read the file at `path`, or every visible `*.yaml` and `*.yml` directly in the folder at `path`.

    All texts come from one moment: if a file is changed, added or removed meanwhile, all are read again.
    Raises RoutesError if there is nothing to read, or the files never stop changing.
    """
    for _ in range(_ATTEMPTS):
        before = _snapshot(path)
        sources, problems = _read_all(before)
        if _snapshot(path) == before:
            return sources, problems
    hint = "write a new file beside it and rename it into place"
    raise RoutesError([Problem(str(path), 1, 1, "", "changes while it is being read", hint)])


def route_files(path: Path) -> list[Path]:
    """Return the files that are read for `path`, sorted; itself where it is no folder that can be listed."""
    try:
        return _listed(path)
    except OSError:
        return [path]


def read_secret(path: Path, hint: str = "") -> str:
    """Read the secret in a file, without the white space around it. Raises InvalidValueError without the secret.

    `hint` is for a file that cannot be read.
    """
    if not path.is_file():
        raise InvalidValueError("there is no such file", hint)
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise InvalidValueError(f"the file cannot be read: {error.strerror}", hint) from None
    if len(data) > _MAX_SECRET_BYTES:
        raise InvalidValueError(
            f"the file is larger than {_MAX_SECRET_BYTES} bytes", "the file must contain nothing but the secret"
        )
    return clean_secret(data.decode("latin-1").strip())


def clean_secret(text: str) -> str:
    """`text` itself when it can be sent in a header field (RFC 9110 section 5.5). Raises InvalidValueError."""
    if not _HEADER_SAFE.fullmatch(text):
        raise InvalidValueError("contains no usable secret", "one line of visible ASCII characters, without spaces")
    return text


def _listed(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and not file.name.startswith("."))


def _snapshot(path: Path) -> _Snapshot:
    try:
        found = [(file, file.stat()) for file in _listed(path)]
    except OSError as error:
        raise RoutesError([Problem(str(path), 1, 1, "", f"cannot be read: {error.strerror}")]) from None
    if not found:
        raise RoutesError([Problem(str(path), 1, 1, "", "no *.yaml or *.yml file in this folder")])
    for file, status in found:
        if not stat.S_ISREG(status.st_mode):
            raise RoutesError([Problem(str(file), 1, 1, "", "is not a regular file")])
    return {file: (status.st_ino, status.st_size, status.st_mtime_ns) for file, status in found}


def _read_all(files: _Snapshot) -> tuple[list[Source], list[Problem]]:
    sources: list[Source] = []
    problems: list[Problem] = []
    for file in files:
        try:
            with file.open("rb") as stream:
                result = _decode(str(file), stream.read(MAX_BYTES + 1))
        except OSError as error:
            result = Problem(str(file), 1, 1, "", f"cannot be read: {error.strerror}")
        if isinstance(result, Source):
            sources.append(result)
        else:
            problems.append(result)
    return sources, problems


def _decode(file: str, data: bytes) -> Source | Problem:
    if len(data) > MAX_BYTES:
        return Problem(file, 1, 1, "", "is larger than 1 MiB", "split it into several files in one folder")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(errors="replace")
        return Problem(file, *_position(before), "", "is not UTF-8", "save the file as UTF-8")
    if bad := _NOT_YAML.search(text):
        message = f"the character U+{ord(bad[0]):04X} is not allowed in YAML"
        return Problem(file, *_position(text[: bad.start()]), "", message, "delete it, or write the file again")
    return Source(file, text)


def _position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - before.rfind("\n")
