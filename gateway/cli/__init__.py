"""The `tidegate` command. Loading it takes a second, in which signals have to mean already what they mean later."""

import sys

from gateway.signals import early


def main() -> None:
    """Entry point of the console script."""
    early(sys.argv[1:2])
    from gateway.cli.commands import app  # noqa: PLC0415 - only now, see above

    app(prog_name="tidegate")
