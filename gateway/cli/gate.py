"""`tidegate gate`: may a deployment begin? A CD system asks by the exit code, and shows the reason."""

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text

from gateway.cli.asking import ADMIN, Admin, AsJson, NoAnswerError, answer_of, console, errors
from gateway.cli.names import ModelOrAlias

_EXIT = {"go": 0, "stop": 1, "unknown": 2}


def gate(
    model: ModelOrAlias,
    freeze_below: Annotated[
        float | None,
        typer.Option(
            help="Stop if less than this percentage of an error budget is left.",
            min=0.0,
            max=100.0,
            show_default="that of the canary, else 10",
        ),
    ] = None,
    admin: Admin = ADMIN,
    *,
    despite_budget: Annotated[
        bool, typer.Option("--despite-budget", help="Let a fix through: a page, failures and budgets are only shown.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether a deployment of MODEL may begin now.

    It stops one while a page fires or requests fail at that rate, while little of an error budget is left, and while
    users get answers of two versions. Too little data stops nothing.

    The exit code is 0 for go, 1 for stop, 2 if it cannot tell: the gateway cannot be reached, or has no such model.
    """
    query: dict[str, str] = {"despite_budget": "true"} if despite_budget else {}
    if freeze_below is not None:
        query["freeze_below"] = f"{freeze_below / 100:g}"
    try:
        found = _known(answer_of(admin, "GET", f"/admin/models/{quote(model)}/gate", params=query), admin)
    except NoAnswerError as error:
        found = {"model": model, "verdict": "unknown", "reasons": [str(error)], "notes": []}
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found)
    raise typer.Exit(_EXIT[found["verdict"]])


def _known(found: Any, admin: str) -> dict[str, Any]:
    if not (isinstance(found, dict) and found.get("verdict") in _EXIT):
        raise NoAnswerError(f"{admin} does not answer as a gateway does: give its admin listener with --admin")
    return found


def _print(found: dict[str, Any]) -> None:
    if found["verdict"] == "unknown":
        errors.print(Text(f"cannot tell: {found['reasons'][0]}"))
        return
    screen = console()
    screen.print(Text("\n".join(_lines(found))), soft_wrap=True)


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"stop: {reason}" for reason in found["reasons"]]
    if not lines:
        left = found["budget_left"]
        lines.append("go" if left is None else f"go: {100 * left:.1f} % of the error budget is left")
    return [*lines, *(f"note: {note}" for note in found["notes"])]
