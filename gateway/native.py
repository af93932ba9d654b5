"""Runs the data path compiled, where it was compiled (hatch_build.py) from exactly the sources that lie here.

Compiled modules lie apart from the sources, in `_compiled`, so that none of them ever hides a source that was edited:
unless every digest is that of its source today, the sources run. So they do with TIDEGATE_PURE=1.
"""

import os
import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parent
FOLDER = PACKAGE / "_compiled"
SUFFIX = EXTENSION_SUFFIXES[0]
"""How modules end that were compiled for this very Python; others are not seen."""
RECORD = FOLDER / f"sources{SUFFIX}.sha256"
"""The digest and the path of each source that what is compiled depends on, as sha256sum writes them."""


class Compiled(MetaPathFinder):
    """Finds compiled modules before the import system finds their sources."""

    def __init__(self) -> None:
        names = {file: ".".join(file.relative_to(FOLDER).parts).removesuffix(SUFFIX) for file in _files()}
        self._files = {name: str(file) for file, name in names.items()}

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where the compiled module lies, if this one is compiled."""
        file = self._files.get(fullname)
        if file is None:
            return None
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, file))


def why_pure() -> str:
    """Return why the sources run instead of the extension, "" when the extension does."""
    if os.environ.get("TIDEGATE_PURE", "0") not in {"", "0"}:
        return "TIDEGATE_PURE is set"
    try:
        lines = RECORD.read_text().splitlines()
    except OSError:
        return "compiled for another Python" if any(FOLDER.glob("sources.*")) else "not compiled"
    for digest, _, name in (line.partition("  ") for line in lines if not line.startswith("#")):
        try:
            source = (PACKAGE / name).read_bytes()
        except OSError:
            source = b""
        if sha256(source).hexdigest() != digest:
            return f"{name} has changed since it was compiled"
    return ""


def use() -> str:
    """Have the compiled modules imported from now on, where there are any of these sources; return why not."""
    why = why_pure()
    if not why:
        sys.meta_path.insert(0, Compiled())
    return why


def running() -> str:
    """Return in words which of both runs in this process."""
    why = why_interpreted()
    if why:
        return f"pure Python: {why}"
    return "compiled with a profile" if ", PGO," in RECORD.read_text().partition("\n")[0] else "compiled"


def why_interpreted() -> str:
    """Return why the sources run in this process, "" when what was compiled does."""
    return "" if is_compiled() else why_pure() or "compiled since it started"


def is_compiled() -> bool:
    """Whether what was compiled runs in this process."""
    return any(isinstance(each, Compiled) for each in sys.meta_path)


def _files() -> list[Path]:
    return sorted(FOLDER.rglob(f"*{SUFFIX}"))
