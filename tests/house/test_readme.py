"""Every command that README.md and docs/install.md show names files, targets, sub-commands and options that exist."""

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from gateway.cli.commands import app

ROOT = Path(__file__).parents[2]
README = "\n".join((ROOT / name).read_text() for name in ("README.md", "docs/install.md"))
MAKEFILE = (ROOT / "Makefile").read_text()
FOLDERS = ("deploy/", "docs/", "gateway/", "loadtest/", "requirements/", "routes/", "tests/")
PROGRAMS = {
    "curl",
    "docker",
    "helm",
    "install",
    "kubectl",
    "make",
    "python",
    "python3",
    "pip",
    "systemctl",
    "tidegate",
    ".",
    "locust",
}


def blocks() -> Iterator[str]:
    """Yield the blocks of code: indented ones, and fenced ones of a shell (after a `$`)."""
    plain = re.sub(r"(?ms)^```.*?^```$", "", README)
    yield from (block.replace("\n    ", "\n") for block in re.findall(r"(?m)(?:^    .+\n)+", plain))
    yield from re.findall(r"(?m)^\$ (.+)$", README)


def commands() -> list[list[str]]:
    """Return the commands of all blocks, and those in backquotes that call tidegate or make."""
    lines = [line for block in blocks() for line in block.replace("\\\n", " ").splitlines()]
    lines += [each for each in re.findall(r"`([^`\n]+)`", README) if re.match(r"(tidegate|make|python -m) ", each)]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


COMMANDS = commands()


def paths(words: list[str]) -> Iterator[str]:
    """Yield the paths inside the checkout that a command names."""
    for word in words:
        for part in re.split(r"[=:]", word.replace("$PWD/", "")):
            if part.startswith(FOLDERS):
                yield part


def options(words: list[str]) -> None:
    """Fail when a call of tidegate has a sub-command or an option that it does not take."""
    command = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and (hasattr(command, "default") or (rest and not rest[0].startswith("-"))):
        default = getattr(command, "default", None)
        name = default if default and (not rest or rest[0] not in command.commands) else rest.pop(0)
        assert name in command.commands, f"tidegate has no sub-command {name}: {words}"
        command = command.commands[name]
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}
    asked = {word.split("=")[0] for word in rest if word.startswith("-")}
    assert asked <= known, f"{command.name} does not take {asked - known}: {words}"


def test_there_are_commands_of_every_kind() -> None:
    programs = {Path(words[0]).name for words in COMMANDS}
    assert programs - {"."} >= {
        "docker",
        "helm",
        "install",
        "kubectl",
        "make",
        "pip",
        "python3",
        "systemctl",
        "tidegate",
    }


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_names_what_exists(words: list[str]) -> None:
    program, *rest = words
    assert Path(program).name in PROGRAMS or program == "."
    missing = [path for path in paths(rest) if not (ROOT / path).exists()]
    assert missing == []
    match Path(program).name:
        case "make":
            (target, *_) = [word for word in rest if "=" not in word]
            assert re.search(rf"(?m)^{re.escape(target)}:", MAKEFILE), target
        case "tidegate":
            options(rest)
        case "docker" if rest[0] == "run":
            options(rest[rest.index("tidegate") + 1 :])
        case "python" | "python3" if rest[:1] == ["-m"]:
            assert find_spec(rest[1].rstrip(".")) is not None, rest[1]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:docs|routes|deploy)/[^`\s]*)`", README))))
def test_a_page_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(
    "wrong", ["serve --prot 1", "sreve routes.yaml", "canary begin m", "status --as-json=1"], ids=str
)
def test_what_does_not_exist_is_found(wrong: str) -> None:
    with pytest.raises(AssertionError):
        options(wrong.split())
