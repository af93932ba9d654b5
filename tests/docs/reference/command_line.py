"""The page of the command line, from its commands."""

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

import typer

from gateway.cli.commands import app
from tests.docs.reference.markdown import WRITTEN, join, table, text

ABOUT = """
`--help` after any command shows the same in a terminal. An option with a variable may be set in the environment
instead; the command line wins.

Commands that ask a running gateway find its admin listener by `--admin` or `TIDEGATE_ADMIN`, and take the token from
`TIDEGATE_ADMIN_TOKEN`. For an admin listener with TLS, `TIDEGATE_ADMIN_CA` names the authorities, and
`TIDEGATE_ADMIN_CERTIFICATE` and `TIDEGATE_ADMIN_KEY` a client certificate. With `--json` they print JSON for programs.

| exit code | meaning |
| --- | --- |
| 0 | it went well |
| 1 | it went well, and found a problem; or what was asked for is refused |
| 2 | the command was used wrongly; `gate` cannot tell |
"""
_REQUIRED = "required"


def page() -> str:
    """Return the page."""
    found = list(commands(typer.main.get_command(app)))
    parts = ["# Command line", WRITTEN, ABOUT, _summary(found)]
    for name, command in found:
        usage = " ".join((name, "[OPTIONS]", *_arguments(command)))
        parts += [f"## {name}", f"```text\n{usage}\n```", _help(command), _table(command)]
    return join(parts)


def _summary(found: Iterable[tuple[str, Any]]) -> str:
    """Return a table of all commands, with the first sentence about each."""
    return table(
        ("command", "what it does"),
        ((f"[`{name}`](#{name.replace(' ', '-')})", text(command.help).split("\n")[0]) for name, command in found),
    )


def commands(group: Any, path: str = "tidegate") -> Iterator[tuple[str, Any]]:
    """Yield every command that does something itself, with the words that call it."""
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield f"{path} {name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")


def _help(command: Any) -> str:
    about, _, examples = re.sub(r"\x08\s*", "", command.help or "").partition("Examples:")
    lines = "\n".join(line.strip() for line in examples.splitlines() if line.strip())
    return text(about) + (f"\n\n```text\n{lines}\n```" if lines else "")


def _arguments(command: Any) -> Iterator[str]:
    for each in command.params:
        if each.param_type_name == "argument":
            name = (each.metavar or each.name).strip("{}[]").upper()
            yield name if each.required else f"[{name}]"


def _table(command: Any) -> str:
    shown = (each for each in command.params if not getattr(each, "hidden", False))
    return table(("argument or option", "variable", "default", "meaning"), map(_row, shown))


def _row(parameter: Any) -> tuple[str, str, str, str]:
    variables = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or []
    if parameter.param_type_name == "argument":
        name = f"`{(parameter.metavar or parameter.name).strip('{}[]').upper()}`"
    else:
        name = ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))
    meaning = (getattr(parameter, "help", "") or "") + _range(parameter)
    return name, ", ".join(f"`{each}`" for each in variables), _default(parameter), meaning


def _default(parameter: Any) -> str:
    if parameter.required:
        return _REQUIRED
    shown = getattr(parameter, "show_default", None)
    if isinstance(shown, str):
        return shown
    default = parameter.default
    if callable(default) or default in (None, "", ()):
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{default:g}`" if isinstance(default, float) else f"`{getattr(default, 'value', default)}`"


def _range(parameter: Any) -> str:
    annotation = parameter.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum) and "One of" not in parameter.help:
        return f" One of {', '.join(f'`{each.value}`' for each in annotation)}."
    low, high = parameter.min, parameter.max
    if low is None and high is None:
        return ""
    return f" At least {low:g}." if high is None else f" {low or 0:g} to {high:g}."
