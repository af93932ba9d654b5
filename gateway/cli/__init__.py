"""The `tidegate` command. Loading it takes a second, in which signals have to mean already what they mean later."""

import os
import sys
from typing import Final

from gateway.signals import early

COMPLETE: Final = "_TIDEGATE_COMPLETE"
"""The variable by which a shell asks the command what may come next."""


def main() -> None:
    """Entry point of the console script."""
    early(sys.argv[1:2])
    from gateway.cli.commands import app  # noqa: PLC0415 - only now, see above

    if COMPLETE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # noqa: PLC0415

        completion_init()
    app(prog_name="tidegate")
