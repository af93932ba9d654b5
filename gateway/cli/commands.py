"""The `tidegate` command: one module per subcommand, each loaded when it is asked for.

All of them together take over a second to load, which `tidegate status` would take too.
"""

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, Final, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

from gateway import native

_COMMANDS: Final = {
    "demo": "gateway.cli.demo",
    "serve": "gateway.cli.serve",
    "check": "gateway.cli.check",
    "doctor": "gateway.cli.doctor",
    "explain": "gateway.cli.explain",
    "status": "gateway.cli.status",
    "top": "gateway.cli.top",
    "slo": "gateway.cli.slo",
    "canary": "gateway.cli.canary",
    "gate": "gateway.cli.gate",
    "capacity": "gateway.cli.capacity",
    "drain": "gateway.cli.operations",
    "undrain": "gateway.cli.operations",
    "deploy": "gateway.cli.operations",
    "stage": "gateway.cli.operations",
    "deployments": "gateway.cli.operations",
    "audit": "gateway.cli.operations",
    "scaler": "gateway.cli.scaler",
    "upgrade": "gateway.cli.upgrade",
    "rules": "gateway.cli.rules",
    "sim": "gateway.cli.sim",
}
"""Where each command is, in the order of the help: a function of its name, or an `app` of several."""


class Commands(MutableMapping[str, Any]):
    """The commands by name; each is loaded when it is first asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, _COMMANDS[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)

    def __contains__(self, name: object) -> bool:
        return name in _COMMANDS


class LazyGroup(TyperGroup):
    """A group of commands that loads those that are asked for."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Commands()


app = typer.Typer(
    name="tidegate",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut the names of options off at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},  # subcommands inherit it
)


def _load(name: str, module: str) -> Any:
    found = import_module(module)
    around = typer.Typer(add_completion=False, rich_markup_mode=None)
    if isinstance(several := getattr(found, "app", None), typer.Typer):
        around.add_typer(several, name=name)
        return cast(TyperGroup, get_command(around)).commands[name]
    around.command(name)(getattr(found, name))
    return get_command(around)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tidegate {version('tidegate')} ({native.running()})")
        raise typer.Exit


@app.callback()
def tidegate(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Run and inspect the gateway in front of vLLM, which measures what users experience and acts on it."""
