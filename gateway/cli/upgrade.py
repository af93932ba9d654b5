"""`tidegate upgrade`: a running gateway goes on in the code that is installed now."""

import time
from typing import Annotated

import typer

from gateway.cli.asking import ADMIN, Admin, AsJson, NoAnswerYetError, ask, ask_now, errors, tell

_LOOK = 0.2


def upgrade(
    admin: Admin = ADMIN,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the new workers.")] = 120.0,
    *,
    as_json: AsJson = False,
) -> None:
    """Replace the workers of a running gateway by new ones.

    These are of the code that is installed now. The gateway has to run with `serve --workers`. No connection is
    refused, and open streams go on. If the new workers do not become ready, nothing changes, and the exit code is 1.
    It is also 1 if they serve the previous routes because a route file is wrong.
    """
    before = ask(admin, "GET", "/admin/status")
    if "generation" not in before:
        errors.print("tidegate: this gateway runs without workers: start it with `serve --workers 1` to upgrade it")
        raise typer.Exit(1)
    ask(admin, "POST", "/admin/upgrade")
    last, limit = "", time.monotonic() + timeout
    while time.monotonic() < limit:
        time.sleep(_LOOK)
        try:
            now = ask_now(admin, "GET", "/admin/status")
        except NoAnswerYetError as error:  # the machine is busy with the start of the new workers
            last = f" ({error})"
            continue
        if now["generation"] > before["generation"]:
            told = {name: now[name] for name in ("version", "generation", "routes") if name in now}
            tell(told, f"generation {now['generation']} serves", as_json=as_json)
            for problem in now["routes"]["problems"]:
                errors.print(f"tidegate: it serves the previous routes, since a file is wrong: {problem}", markup=False)
            if now["routes"]["problems"]:
                raise typer.Exit(1)
            return
        if now["upgrade"].startswith("failed"):
            errors.print(f"tidegate: the upgrade {now['upgrade']}", markup=False)
            raise typer.Exit(1)
        last = ""
    words = f"tidegate: the new workers do not serve after {timeout:g} s{last}"
    errors.print(f"{words}; see `tidegate status` and the gateway's log", markup=False)
    raise typer.Exit(1)
