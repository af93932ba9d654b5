"""Which runs have been played already, and by what: a run is not played again at the same commit."""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

_FILE = "finished.json"
_PLAYED = ("gateway", "loadtest/scenarios", "requirements/peers.txt")


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that counts: the commit and the gateways that played it; `trace` is the file of a real trace, if any."""

    commit: str
    gateways: tuple[str, ...]
    trace: str

    def write(self, folder: Path) -> None:
        """Leave it beside the recording."""
        (folder / _FILE).write_text(json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Finished | None":
        """Return what a folder says, None where no run that counts has finished there."""
        try:
            found = json.loads((folder / _FILE).read_text())
            return cls(found["commit"], tuple(found["gateways"]), found["trace"])
        except (OSError, ValueError, KeyError):
            return None

    def covers(self, commit: str, gateways: Iterable[str], trace: str) -> bool:
        """Whether it is what these would play once more."""
        return self.commit == commit and self.trace == trace and set(gateways) <= set(self.gateways)


def clear(folder: Path) -> None:
    """Let what is in a folder count no longer."""
    (folder / _FILE).unlink(missing_ok=True)


def commit() -> str:
    """Name the last commit of what is played, with a checksum of changes since; "unknown" outside a checkout."""
    last, changes = _git("log", "-1", "--format=%h", "--", *_PLAYED), _git("diff", "HEAD", "--", *_PLAYED)
    if not last:
        return "unknown"
    return last.strip() + (f"+{crc32(changes.encode()):08x}" if changes else "")


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
