"""Install exactly what a lock lists into a virtual environment: `python install.py VENV LOCK`.

The environment is made if there is none. Nothing is resolved (`--no-deps`): some releases of pip look up the newest
release of whatever a locked package needs with an extra, and refuse it because the lock has no hash for it. Whether
the lock is complete for this Python is what `pip check` says afterwards.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

SECONDS_BETWEEN_LINES = 10.0
LINES_OF_AN_ERROR = 30


def main(arguments: list[str]) -> int:
    """Return 0 when the environment has what the lock lists, else 1, with pip's own error on standard error."""
    if len(arguments) != 2:
        print("usage: install.py VENV LOCK", file=sys.stderr)
        return 2
    environment, lock = Path(arguments[0]), Path(arguments[1])
    packages = sum("==" in line and line[0].isalnum() for line in lock.read_text().splitlines())
    python = environment / "bin" / "python"
    if not (python.exists() and (environment / "bin" / "pip").exists()):
        _say(f"Making a virtual environment in {environment} with Python {sys.version.split()[0]}")
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    _say(f"Installing {packages} packages from {lock}, which takes a minute or two when none of them is cached")
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    installed = _run([*pip, "install", "--no-deps", "--require-hashes", "-r", lock], packages)
    return 0 if installed and _run([*pip, "check"], packages) else 1


def _run(command: list[Path | str], packages: int) -> bool:
    """Run pip quietly, with a line now and then about how far it is; show the end of what it said if it failed."""
    began = time.monotonic()
    with tempfile.TemporaryFile("a+") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        while True:
            try:
                process.wait(SECONDS_BETWEEN_LINES)
                break
            except subprocess.TimeoutExpired:
                _say(f"  {time.monotonic() - began:.0f} s: {_progress(said, packages)}")
        if process.returncode != 0:
            said.seek(0)
            print("".join(said.readlines()[-LINES_OF_AN_ERROR:]), end="", file=sys.stderr)
    return process.returncode == 0


def _progress(said: TextIO, packages: int) -> str:
    said.seek(0)
    text = said.read()
    if "\nInstalling collected packages" in text:
        return f"unpacking {packages} packages"
    return f"{text.count('Collecting ')} of {packages} packages fetched"


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
