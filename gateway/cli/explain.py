"""`tidegate explain`: where a request would go now, and why, as a running gateway tells it."""

import json
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from gateway.cli.asking import ADMIN, Admin, AsJson, ask, console, table
from gateway.cli.names import models


def explain(
    model: Annotated[str, typer.Option(help="Model or alias, as clients send it.", autocompletion=models)],
    prompt_tokens: Annotated[int, typer.Option(help="Length of the prompt, in tokens.", min=1)] = 500,
    service_class: Annotated[
        str,
        typer.Option("--class", help="Service class of the request: interactive, batch, or another from the routes."),
    ] = "standard",
    admin: Admin = ADMIN,
    *,
    as_json: AsJson = False,
) -> None:
    """Show where a request would go now, and why.

    It lists the candidates with their scores. Nothing is sent to any engine.

    The exit code is 1 if no backend would get the request.
    """
    query = {"model": model, "prompt_tokens": prompt_tokens, "class": service_class}
    decision = ask(admin, "GET", "/admin/explain", params=query)
    if as_json:
        typer.echo(json.dumps(decision, indent=2))
    else:
        _print(decision)
    if not all(version["winner"] for version in decision["versions"]):
        raise typer.Exit(1)


def _print(decision: dict[str, Any]) -> None:
    screen = console()
    for version in decision["versions"]:
        title = f"{decision['model']} {version['version']}, {version['share'] * 100:.4g} % of requests"
        screen.print(Text(f"{title}, {decision['prompt_tokens']} prompt tokens"))
        screen.print(_candidates(version))
        screen.print(Text(f"{version['winner'] or 'no backend'}: {version['why']}\n"))


def _candidates(version: dict[str, Any]) -> Table:
    return table(
        ["backend", "predicted TTFT", "weight", "score", "routing burn", "in flight", "prefilling", "refused"],
        [
            [
                each["backend"],
                _milliseconds(each["predicted_ttft_seconds"]) + (" (extrapolated)" if each["extrapolated"] else ""),
                f"{each['weight']:.2f}",
                _milliseconds(each["score"]),
                f"{each['routing_burn']:.2f}",
                str(each["in_flight"]),
                str(each["prefilling_tokens"]),
                each["refused"],
            ]
            for each in version["candidates"]
        ],
        ["prefilling", "in flight", "weight", "routing burn"],
    )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"
