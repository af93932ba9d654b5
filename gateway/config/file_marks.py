"""Whether files have changed, wherever they lie and whatever links lead there.

Files are looked at by name: notices of the system would say nothing of a link into another folder whose target is
exchanged (Kubernetes does that with secrets), of a network file system, or of a folder that comes later. A change
counts once it has lasted from one look to the next, so that most files are whole by then.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

_LONGEST_UNREST = 10
"""Looks after which a file that changes all the time is read nevertheless."""

_Mark = tuple[int, ...] | None


class FileMarks:
    """What files looked like before they were last read."""

    def __init__(self, files: Callable[[], Iterable[Path]]) -> None:
        self._files = files
        self._seen: dict[Path, _Mark] = {}
        self._changed: dict[Path, _Mark] | None = None
        self._unrest = 0

    def take(self) -> None:
        """Remember what they look like; has to come before they are read, so that no change is missed."""
        self._seen = self._look()
        self._changed, self._unrest = None, 0

    def adopt(self, files: Iterable[Path]) -> None:
        """Remember files that were not known to matter before they were read."""
        for file in files:
            self._seen.setdefault(file, _mark(file))

    def have_changed(self) -> bool:
        """Whether to read them again; called at each look."""
        now = self._look()
        if now == self._seen:
            self._changed, self._unrest = None, 0
            return False
        self._unrest += 1
        is_quiet, self._changed = now == self._changed, now
        return is_quiet or self._unrest > _LONGEST_UNREST

    def _look(self) -> dict[Path, _Mark]:
        return {file: _mark(file) for file in self._files()}


def _mark(file: Path) -> _Mark:
    """Return what changes with the file that a name leads to, None where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
