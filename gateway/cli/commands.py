"""The `tidegate` command: one module per subcommand, each loaded when it is asked for.

All of them together take over a second to load, which `tidegate status` would take too.
"""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, Final, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from gateway import native
from gateway.cli.examples import add_examples

_COMMANDS: Final = {
    "demo": ("gateway.cli.demo", "Show in a tour how the gateway handles faults and overload."),
    "serve": ("gateway.cli.serve", "Serve the models in ROUTES to OpenAI clients."),
    "check": ("gateway.cli.check", "Check route files, and show what they mean."),
    "doctor": ("gateway.cli.doctor", "Ask each backend what it serves and which metrics it has."),
    "explain": ("gateway.cli.explain", "Show where a request would go now, and why."),
    "status": ("gateway.cli.status", "Show objectives, rollouts, queues, backends and problems."),
    "top": ("gateway.cli.top", "Show each backend's load, speed and burn rate, live."),
    "costs": ("gateway.cli.costs", "Show what each tenant used, and what that cost."),
    "slo": ("gateway.cli.slo", "Show burn rates, error budgets and alerts of models."),
    "canary": ("gateway.cli.canary", "Watch and control the rollout of a new version."),
    "gate": ("gateway.cli.gate", "Say whether a deployment of MODEL may begin now."),
    "capacity": ("gateway.cli.capacity", "Show how many replicas pools want, and approve more."),
    "drain": ("gateway.cli.operations", "Send BACKEND no new requests, even after a restart."),
    "undrain": ("gateway.cli.operations", "Send BACKEND requests again."),
    "deploy": ("gateway.cli.operations", "Register a deployment, to time it until its first answer."),
    "stage": ("gateway.cli.operations", "Report a stage of a deployment, to time it."),
    "deployments": ("gateway.cli.operations", "Show the latest deployments, and how long each stage took."),
    "audit": ("gateway.cli.operations", "Show who changed what, the latest first."),
    "scaler": ("gateway.cli.scaler", "Tell KEDA over gRPC what pools want."),
    "upgrade": ("gateway.cli.upgrade", "Replace the workers of a running gateway by new ones."),
    "rules": ("gateway.cli.rules", "Write alerting rules, their tests or a dashboard."),
    "sim": ("gateway.cli.sim", "Run one simulated vLLM server."),
    "completion": ("gateway.cli.completion", "Print what makes the Tab key complete commands in a shell."),
}
"""Where each command is, in the order of the help: a function of its name, or an `app` of several; and what it does."""


class Commands(MutableMapping[str, Any]):
    """The commands by name; each is loaded when it is first asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, _COMMANDS[name][0])
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
    """A group of commands that loads those that are asked for, and lists them without loading any."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Commands()
        add_examples(self, "")

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        with self._listed():
            super().format_commands(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the commands that begin so."""
        with self._listed():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _listed(self) -> Iterator[None]:
        loaded, self.commands = (
            self.commands,
            {name: TyperCommand(name, help=text) for name, (_, text) in _COMMANDS.items()},
        )
        try:
            yield
        finally:
            self.commands = loaded


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
        group = cast(TyperGroup, cast(TyperGroup, get_command(around)).commands[name])
        for inner, each in group.commands.items():
            add_examples(each, f"{name} {inner}")
        add_examples(group, name)
        return group
    around.command(name)(getattr(found, name))
    command = get_command(around)
    add_examples(command, name)
    return command


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
