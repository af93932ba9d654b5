"""A group of commands of which one is meant where none is named: `tidegate slo MODEL` is `tidegate slo show MODEL`."""

from typing import ClassVar

from typer import Context
from typer.core import TyperGroup


class ShowByDefault(TyperGroup):
    """Means `show` unless the first argument is one of its commands, or asks for help."""

    default: ClassVar[str] = "show"

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Name the default command where none is named."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [self.default, *args]
        return super().parse_args(ctx, args)
