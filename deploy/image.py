"""Run the steps of the Dockerfile here, below one folder: `python deploy/image.py [--pure] FOLDER` (`make image`).

It stands in for a build where no container engine runs. Steps of the first stage run as they are written, on the files
that `.dockerignore` lets through, with the paths of the image below FOLDER, and with this machine's Python and compiler
instead of those of the base image. What the last stage adds (a user, the slim base) is not tried. `--pure` leaves out
compiling, which takes minutes. At the end the image's entry point says its version.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PATHS = ("/opt/build", "/opt/tidegate", "/wheels")


class Instruction(NamedTuple):
    """One instruction of a Dockerfile."""

    name: str
    text: str


def instructions(text: str) -> list[list[Instruction]]:
    """Return the instructions of each stage."""
    joined = re.sub(r"\\\n", "", re.sub(r"(?m)^\s*#.*\n", "", text))
    stages: list[list[Instruction]] = []
    for line in joined.splitlines():
        if not line.strip():
            continue
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append(Instruction(name, rest.strip()))
    return stages


def context(folder: Path) -> None:
    """Copy what a build would see: files of the checkout that `.dockerignore` lets through."""
    allowed = tuple(line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!"))
    listed = subprocess.run(["git", "ls-files", *allowed], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def main() -> int:
    """Return 0 when every step did, else 1."""
    *options, where = sys.argv[1:]
    pure, folder = "--pure" in options, Path(where).resolve()
    build, final = instructions((ROOT / "Dockerfile").read_text())
    seen, source = folder / "context", folder / "src"
    source.mkdir(parents=True)
    context(seen)
    environment = dict(os.environ) | ({"TIDEGATE_PURE": "1"} if pure else {})
    for name, text in build:
        match name:
            case "ENV":
                environment |= dict(re.findall(r"(\w+)=(\S+)", text))
            case "COPY":
                *files, target = text.split()
                for file in files:
                    _copy(seen / file, source / target)
            case "RUN":
                if not _run(_below(text, folder, pure=pure), source, environment):
                    return 1
    [entry] = [json.loads(each.text) for each in final if each.name == "ENTRYPOINT"]
    command = [str(folder / "opt/tidegate/bin" / entry[0]), "--version"]
    return 0 if _run(" ".join(command), folder, environment) else 1


def _copy(file: Path, target: Path) -> None:
    if file.is_dir():
        shutil.copytree(file, target, dirs_exist_ok=True)
    else:
        target.mkdir(exist_ok=True)
        shutil.copy(file, target)


def _below(command: str, folder: Path, *, pure: bool) -> str:
    for path in PATHS:
        command = command.replace(path, f"{folder}{path}")
    if pure:
        command = command.replace("TIDEGATE_PGO=1 ", "")
        # The last part of the step says whether the data path is compiled.
        command = re.sub(r" && \S+python -c 'from gateway import native;[^']*'", "", command)
    return command


def _run(command: str, folder: Path, environment: dict[str, str]) -> bool:
    print(f"$ {command}", flush=True)
    return subprocess.run(["sh", "-euc", command], cwd=folder, env=environment, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
