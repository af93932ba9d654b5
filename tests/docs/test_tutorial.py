"""The tutorial is followed as it is written, in one shell: its files, its commands, and what they print."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.commands import ROOT
from tests.rules.test_prometheus import free_port
from tests.waiting import DEADLINE

pytestmark = pytest.mark.anyio
PAGE = ROOT / "docs/first-canary.md"
PORTS = ("8001", "8002", "8003", "8080", "9000")
LOOKS = re.compile(r"curl -si |tidegate \w+ status |tidegate check |tidegate audit")
"""Commands that change nothing: a reader repeats them until they say what the page says."""


@dataclass(frozen=True, slots=True)
class Step:
    """A file to write, or a command to run with the lines that it prints."""

    text: str
    file: str = ""
    printed: tuple[str, ...] = ()


def steps(page: str) -> Iterator[Step]:
    """Yield what a page has its reader do."""
    for language, body in re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", page):
        if language == "yaml":
            yield Step(body, file=body.splitlines()[0].removeprefix("# "))
        for command, printed in re.findall(r"(?m)^\$ (.*)\n((?:(?!\$ ).*\n)*)", body):
            yield Step(command, printed=tuple(printed.splitlines()))


def says(output: str, shown: tuple[str, ...]) -> bool:
    """Return whether an output has the lines that a page shows, in order, whatever the numbers in them.

    Dots stand for anything: at the end of a line for its rest, on a line of their own for any lines.
    """
    lines = iter(_plain(output).splitlines())
    wanted = [_plain(line) for line in shown if line != "..."]
    return all(any(_is_shown(line, want) for line in lines) for want in wanted)


def _is_shown(line: str, want: str) -> bool:
    return line.startswith(want.removesuffix("...")) if want.endswith("...") else line == want


def _plain(text: str) -> str:
    return "\n".join(re.sub(r"\d[\d.,]*", "0", " ".join(line.split())) for line in text.splitlines())


class Shell:
    """One shell, as a reader has it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, command: str) -> str:
        """Run a command; return what it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho; echo '# over'\n".encode())
        async with asyncio.timeout(DEADLINE):
            lines = []
            while (line := (await self._process.stdout.readline()).decode()) != "# over\n":
                assert line, f"the shell ended at {command}"
                lines.append(line)
        return "".join(lines)

    async def prints(self, step: Step) -> None:
        """Run a command, once or as often as a reader would, and compare what it prints."""
        output = await self.run(step.text)
        try:
            async with asyncio.timeout(DEADLINE):
                while not says(output, step.printed) and LOOKS.match(step.text):
                    output = await self.run(step.text)
        finally:
            assert says(output, step.printed), f"{step.text}\n{output}"


@asynccontextmanager
async def shell(folder: Path, **environment: str) -> AsyncIterator[Shell]:
    """Start a shell in a folder. Whatever still runs in it at the end is killed."""
    bins = folder / "bin"
    bins.mkdir()
    (bins / "tidegate").write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway "$@"\n')
    (bins / "tidegate").chmod(0o755)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "bash",
        cwd=folder,
        env={**os.environ, **environment, "COLUMNS": "300", "PATH": f"{bins}:{os.environ['PATH']}"},
        stdin=pipe,
        stdout=pipe,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield Shell(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def test_the_tutorial_goes_as_it_says(tmp_path: Path) -> None:
    page = PAGE.read_text()
    ports = {port: str(free_port()) for port in PORTS}
    for port, free in ports.items():
        page = page.replace(port, free)
    folder = tmp_path
    async with shell(
        tmp_path,
        TIDEGATE_PORT=ports["8080"],
        TIDEGATE_ADMIN_PORT=ports["9000"],
        TIDEGATE_ADMIN=f"http://localhost:{ports['9000']}",
    ) as bash:
        for step in steps(page):
            if step.file:
                (folder / step.file).write_text(step.text)
                continue
            await bash.prints(step)
            if step.text.startswith("mkdir "):
                folder = tmp_path / step.text.split()[1]


def test_the_page_has_both_files_and_all_commands() -> None:
    found = list(steps(PAGE.read_text()))
    assert [step.file for step in found if step.file] == ["routes.yaml", "routes.yaml"]
    assert len([step for step in found if not step.file]) >= 15


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("held for 7 s of 10 s\n", ("held for 2 s of 10 s",)),
        ("one  \ntwo\nthree\n", ("one", "...", "three")),
        ("because: of 12\n", ("because: ...",)),
        ("anything\n", ()),
    ],
    ids=str,
)
def test_an_output_is_what_a_page_shows(output: str, shown: tuple[str, ...]) -> None:
    assert says(output, shown)


@pytest.mark.parametrize(
    ("output", "shown"),
    [("rolled back\n", ("promoted",)), ("two\none\n", ("one", "two")), ("", ("...", "one"))],
    ids=str,
)
def test_an_output_that_a_page_does_not_show_is_found(output: str, shown: tuple[str, ...]) -> None:
    assert not says(output, shown)
