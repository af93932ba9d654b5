"""The commands that README.md and the pages in docs/ show, in the order in which they stand there."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
SHELLS = frozenset(("", "bash", "console", "sh", "shell"))
"""Languages of fenced blocks that hold commands: behind a `$` where the block has any, else one a line."""
NO_COMMANDS = ("availability of m:", "route: {", "The slot goes to", "state in redis", "limits of tenants:", "sum by (")
"""How indented blocks begin that show something else."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command as it is written, its lines joined and without its comment, on a page named as below the root."""

    page: str
    text: str

    @property
    def words(self) -> list[str]:
        """The words of a shell."""
        return shlex.split(self.text)


def blocks(text: str) -> Iterator[str]:
    """Yield the blocks of a page that hold commands: fenced ones of a shell, and indented ones behind an empty line."""
    for language, body in re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", text):
        if language in SHELLS:
            yield body if "$ " not in body else "".join(re.findall(r"(?m)^\$ ((?:.*\\\n)*.*\n)", body))
    plain = re.sub(r"(?ms)^```.*?^```$", "", text)
    for block in re.findall(r"(?m)(?:(?<=\n\n)|\A)(?:    .+\n)+", plain):
        body = re.sub(r"(?m)^    (?:\$ )?", "", block)
        if not body.startswith(NO_COMMANDS):
            yield body


def commands(page: Path) -> Iterator[Command]:
    """Yield the commands of a page."""
    name = str(page.relative_to(ROOT))
    for block in blocks(page.read_text()):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            if text := _without_comment(line):
                yield Command(name, text)


def _without_comment(line: str) -> str:
    return re.sub(r"(?:^|\s+)# .*$", "", line).strip()


COMMANDS = tuple(command for page in PAGES for command in commands(page))
