"""`tidegate capacity`: how many replicas every pool wants and why, and a person's word on what waits for approval."""

import json
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text

from gateway.cli.asking import ADMIN, Admin, AsJson, Reason, ask, console, table, tell
from gateway.cli.names import Pool

app = typer.Typer(help="Show how many replicas pools want, and approve more.")
_INPUTS = ("burn", "burn_now", "queue_wait", "patience", "queued", "arrivals", "usage", "needed", "expected_upper")
"""The inputs that are shown in the table; `--json` has all."""


@app.callback(invoke_without_command=True)
def capacity(context: typer.Context, admin: Admin = ADMIN, *, as_json: AsJson = False) -> None:
    """Show how many replicas each pool wants, why, and until when.

    The exit code is 1 if that is unknown for a pool. `capacity approve POOL` and `capacity reject POOL` answer for a
    want that waits for approval.
    """
    if context.invoked_subcommand is not None:
        context.obj = admin
        return
    found = ask(admin, "GET", "/admin/capacity")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _show(found)
    if any(each["target"] is None for each in found):
        raise typer.Exit(1)


@app.command()
def approve(
    context: typer.Context,
    pool: Pool,
    replicas: Annotated[
        int | None,
        typer.Option(
            help="Approve up to so many, whether they are wanted now or not.", min=1, show_default="what waits"
        ),
    ] = None,
    reason: Reason = "",
    admin: Admin = ADMIN,
    *,
    as_json: AsJson = False,
) -> None:
    """Let POOL have what waits for approval."""
    body = {"reason": reason} | ({} if replicas is None else {"replicas": replicas})
    found = _answer(context, pool, "approve", admin, body)
    tell(found, f"{pool} may have up to {found['approved']} {found['unit']}", as_json=as_json)


@app.command()
def reject(
    context: typer.Context, pool: Pool, reason: Reason = "", admin: Admin = ADMIN, *, as_json: AsJson = False
) -> None:
    """Refuse what waits for approval at POOL.

    It also takes back what was approved. If more is wanted later, approval is asked for again.
    """
    found = _answer(context, pool, "reject", admin, {"reason": reason})
    words = f"{found['rejected']} {found['unit']} are rejected for {pool}; a want of more asks again"
    tell(found, words, as_json=as_json)


def _answer(context: typer.Context, pool: str, action: str, admin: str, body: dict[str, Any]) -> dict[str, Any]:
    where = context.obj if admin == ADMIN and isinstance(context.obj, str) else admin
    found: dict[str, Any] = ask(where, "POST", f"/admin/capacity/{quote(pool, safe='')}/{action}", json=body)
    return found


def _show(found: list[dict[str, Any]]) -> None:
    screen = console()
    if not found:
        screen.print(Text("no pool has a `capacity` in the routes"))
        return
    rows = [
        [
            each["pool"],
            "unknown" if each["target"] is None else str(each["target"]),
            "-" if each["replicas_now"] is None else str(each["replicas_now"]),
            f"{each['min']} to {each['max']} {each['unit']}",
            "-" if each["cost_per_hour"] is None else f"{each['cost_per_hour']:g}",
            each["rule"] if each["target"] is not None else "-",
            each["problem"] or each["reason"],
        ]
        for each in found
    ]
    columns = ["pool", "wants", "has", "limits", "cost per hour", "rule", "why"]
    screen.print(table(columns, rows, ["cost per hour", "rule", "limits"]))
    for each in found:
        for line in notes(each):
            screen.print(Text(line), soft_wrap=True)


def notes(found: dict[str, Any]) -> Iterator[str]:
    """Yield what else there is to know of a pool's want."""
    pool, unit = found["pool"], found["unit"]
    shown = ", ".join(
        f"{name.replace('_', ' ')} {value:.4g}" for name in _INPUTS if (value := found["inputs"].get(name)) is not None
    )
    if shown and found["target"] is not None:
        yield f"{pool}: {shown}"
    if found["rails"]:
        yield f"{pool}: the rule asks for {found['proposed']} {unit}, bounded by {', '.join(found['rails'])}"
    if found["awaits"] is not None:
        yield f"{pool}: {found['awaits']} {unit} wait for approval: `tidegate capacity approve {pool}`"
    if found["approved"] is not None:
        yield f"{pool}: up to {found['approved']} {unit} are approved"
    if found["rejected"] is not None:
        yield f"{pool}: {found['rejected']} {unit} were rejected"
