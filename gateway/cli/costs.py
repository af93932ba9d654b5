"""`tidegate costs`: what each tenant used, and what that cost."""

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from gateway.cli.asking import ADMIN, Admin, AsJson, ask, found_by, table, text_of
from gateway.cli.names import models, tenants
from gateway.cli.watching import Parts, print_found


class Idle(StrEnum):
    """What becomes of what idle engines cost."""

    APART = "apart"
    DISTRIBUTED = "distributed"


def costs(
    admin: Admin = ADMIN,
    *,
    tenant: Annotated[
        str, typer.Option(help="Show this tenant alone.", show_default="all", autocompletion=tenants)
    ] = "",
    model: Annotated[str, typer.Option(help="Show this model alone.", show_default="all", autocompletion=models)] = "",
    idle: Annotated[
        Idle, typer.Option(help="Whether what idle engines cost is told apart, or each tenant gets its part of it.")
    ] = Idle.APART,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what each tenant used, and what that cost.

    It is counted since the gateway started, in the currency of the pools' `cost_per_hour`; docs/costs.md says how.
    """
    if as_csv and as_json:
        raise typer.BadParameter("--csv cannot be combined with --json", param_hint="--csv")
    query = {"tenant": tenant, "model": model, "idle": str(idle)}
    if as_csv:
        typer.echo(found_by(lambda: text_of(admin, "/admin/costs", params=query | {"format": "csv"})), nl=False)
        return
    found = ask(admin, "GET", "/admin/costs", params=query)
    print_found(found, lambda found, _: _shown(found), as_json=as_json)


def _shown(found: dict[str, Any]) -> Parts:
    since, until = (found[each][:16].replace("T", " ") for each in ("since", "until"))
    yield Text(f"{since} to {until} UTC\n")
    if found["tenants"]:
        yield _tenants(found["tenants"])
    else:
        yield Text("no requests were counted")
    if found["pools"]:
        yield Text()
        yield _pools(found["pools"])


def _tenants(rows: list[dict[str, Any]]) -> Table:
    is_distributed = any(each["idle_cost"] for each in rows)
    counted = ["ok", "failed", "limited", "client"]
    tokens = {"prompt tokens": "prompt_tokens", "cached": "cached_prompt_tokens", "output tokens": "output_tokens"}
    return table(
        ["tenant", "model", *counted, *tokens, "cost", *(["idle"] if is_distributed else [])],
        [
            [
                each["tenant"],
                each["model"],
                *(f"{each['requests'].get(result, 0):,}" for result in counted),
                *(f"{each[name]:,}" for name in tokens.values()),
                _money(each["cost"]),
                *([_money(each["idle_cost"])] if is_distributed else []),
            ]
            for each in rows
        ],
        ["client", "cached", "limited"],
    )


def _pools(rows: list[dict[str, Any]]) -> Table:
    parts = ("cost", "charged", "mirrored", "idle", "in_progress")
    return table(
        ["pool", "cost", "charged to tenants", "mirrored", "idle", "in progress"],
        [[each["pool"], *(_money(each[part]) for part in parts)] for each in rows],
        ["in progress", "mirrored"],
    )


def _money(cost: float) -> str:
    """Return a cost to four places, and one that is smaller to two digits that say something."""
    return f"{cost:,.4f}" if cost >= 0.001 or not cost else f"{cost:.2g}"
