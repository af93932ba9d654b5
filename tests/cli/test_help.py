"""What the help of each command has: examples that parse, variables of options, and `--json` where it prints."""

import os
import shlex
import subprocess
from pathlib import Path

import httpx
import pytest
import typer
from typer.completion import completion_init  # type: ignore[attr-defined]
from typer.core import TyperGroup
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.cli.examples import EXAMPLES
from tests.cli.test_command import names

_PRINT_NO_DATA = {"demo", "serve", "sim", "scaler", "rules", "completion"}
"""Commands that run until they are stopped, or whose output is a file of a format of its own."""


def root() -> TyperGroup:
    found = typer.main.get_command(app)
    assert isinstance(found, TyperGroup)
    return found


def commands_in(example: str) -> list[list[str]]:
    """Return the arguments of each `tidegate` in a line of shell."""
    lexer = shlex.shlex(example, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = []
    part: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;<>()"):
            if part and part[0] == "tidegate":
                found.append(part[1:])
            part = []
        elif part or "=" not in word:
            part.append(word)
    return found


def parse(arguments: list[str]) -> None:
    """Parse as the command line does, without running anything; raises a usage error."""
    context = root().make_context("tidegate", [*arguments])
    while isinstance(context.command, TyperGroup) and (left := [*context._protected_args, *context.args]):
        name, command, rest = context.command.resolve_command(context, left)
        assert command is not None, arguments
        context = command.make_context(name, rest, parent=context)


def test_every_command_has_examples_and_every_example_a_command() -> None:
    assert set(EXAMPLES) == {" ".join(name) for name in names()}


@pytest.mark.parametrize("name", names(), ids=" ".join)
def test_the_help_shows_the_examples(name: list[str]) -> None:
    shown = CliRunner().invoke(app, [*name, "--help"]).output
    _, _, after = shown.partition("  Examples:\n")
    examples = EXAMPLES[" ".join(name)]
    assert after.splitlines()[: len(examples)] == [f"    {each}" for each in examples]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_parses(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "routes.yaml").touch()
    (tmp_path / "routes").mkdir()
    begins = "slo" if name == "slo show" else name
    for example in EXAMPLES[name]:
        found = commands_in(example)
        for arguments in found:
            parse(arguments)
        assert any(" ".join(arguments).startswith(begins) for arguments in found), example


@pytest.mark.parametrize("name", names()[1:], ids=" ".join)
def test_options_show_their_variables_and_what_prints_can_print_json(name: list[str]) -> None:
    found = root()
    for each in name:
        assert isinstance(found, TyperGroup)
        found = found.commands[each]  # type: ignore[assignment]
    for parameter in found.params:
        assert not parameter.envvar or getattr(parameter, "show_envvar", False), parameter.name
    if name[0] not in _PRINT_NO_DATA and not (isinstance(found, TyperGroup) and name[0] != "capacity"):
        assert any("--json" in parameter.opts for parameter in found.params)


def test_the_list_of_commands_says_what_their_own_help_says() -> None:
    listed = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    for name in names():
        if len(name) == 1:
            command = root().commands[name[0]]
            first = (command.help or "").partition("\n")[0]
            assert f"  {name[0]:<11}  {first}\n" in listed


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tidegate can", ["canary"]),
        ("tidegate canary pro", ["promote"]),
        ("tidegate drain --wa", ["--wait"]),
        ("tidegate drain gpu/b:", ["gpu/b:1", "gpu/b:2"]),
        ("tidegate slo s", ["smol", "suggest"]),
        ("tidegate explain --model=", ["smol", "tiny"]),
        ("tidegate deploy tiny ", ["v1", "v2"]),
        ("tidegate capacity approve ", ["gpu"]),
        ("tidegate status --tenant ac", ["acme"]),
        ("tidegate top --sort b", ["burn"]),
    ],
)
def test_the_tab_key_completes_names(typed: str, offered: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "models": [{"name": "smol", "aliases": ["tiny"], "versions": [{"name": "v1"}, {"name": "v2"}]}],
        "backends": [{"id": "gpu/a:1"}, {"id": "gpu/b:1"}, {"id": "gpu/b:2"}],
        "capacity": [{"pool": "gpu"}],
        "tenants": [{"name": "acme"}],
    }
    monkeypatch.setattr(httpx, "request", lambda *_, **__: httpx.Response(200, json=told))
    assert complete(typed) == offered


def test_without_a_gateway_the_tab_key_still_completes_commands() -> None:
    assert complete("tidegate drain gpu/ --admin http://127.0.0.1:9 ") == []
    assert complete("tidegate dr") == ["drain"]


def complete(typed: str) -> list[str]:
    """Return what the command offers to a shell."""
    completion_init()
    asked = {"_TIDEGATE_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    result = CliRunner().invoke(app, env=asked | {"_TYPER_COMPLETE_ARGS": typed}, prog_name="tidegate")
    return [line.partition("\t")[0] for line in result.output.splitlines() if line]


def test_in_bash_what_is_before_a_colon_is_not_told_again(tmp_path: Path) -> None:
    fake = tmp_path / "tidegate"
    fake.write_text("#!/bin/sh\nprintf 'gpu/b:1\\tone\\ngpu/b:2\\n'\n")
    fake.chmod(0o755)
    script = CliRunner().invoke(app, ["completion", "bash"]).output
    script += (
        'COMP_LINE="tidegate drain gpu/b:"; COMP_POINT=${#COMP_LINE}; _tidegate_completion; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1 2\n"


@pytest.mark.parametrize(("shell", "begins"), [("zsh", "#compdef tidegate\n"), ("fish", "function _tidegate_")])
def test_other_shells_have_scripts_of_their_own(shell: str, begins: str) -> None:
    assert CliRunner().invoke(app, ["completion", shell]).output.startswith(begins)
