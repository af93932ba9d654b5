"""`tidegate explain`: where a request would go now, and why, as a running gateway tells it."""

import json
import os
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH_IN_FILES = 160
_errors = Console(stderr=True, highlight=False, soft_wrap=True)


def explain(
    model: Annotated[str, typer.Option(help="Model or alias, as clients send it.")],
    prompt_tokens: Annotated[int, typer.Option(help="Length of the prompt.", min=1)],
    service_class: Annotated[str, typer.Option("--class", help="Class of the request.")] = "standard",
    admin: Annotated[
        str, typer.Option(help="Admin listener of the gateway.", envvar="TIDEGATE_ADMIN")
    ] = "http://127.0.0.1:9000",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the decision as JSON.")] = False,
) -> None:
    """Show the candidates for a request, their scores, and why the winner wins. Nothing is sent to any engine.

    A token is taken from TIDEGATE_ADMIN_TOKEN. Exit code 1 when nothing would get the request.
    """
    query = {"model": model, "prompt_tokens": prompt_tokens, "class": service_class}
    decision = _asked(admin, query)
    if as_json:
        typer.echo(json.dumps(decision, indent=2))
    else:
        _print(decision)
    if not all(version["winner"] for version in decision["versions"]):
        raise typer.Exit(1)


def _asked(admin: str, query: dict[str, Any]) -> dict[str, Any]:
    token = os.environ.get("TIDEGATE_ADMIN_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(f"{admin}/admin/explain", params=query, headers=headers, trust_env=False, timeout=10.0)
        body = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        _errors.print(f"tidegate: no gateway answers at {admin}: {error}; name its admin listener with --admin")
        raise typer.Exit(1) from None
    if answer.status_code != 200:
        detail = body.get("error", {}).get("message") if isinstance(body, dict) else None
        _errors.print(f"tidegate: {detail or f'the gateway answered {answer.status_code}'}", markup=False)
        raise typer.Exit(1)
    return dict(body)


def _print(decision: dict[str, Any]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH_IN_FILES
    for version in decision["versions"]:
        title = f"{decision['model']} {version['version']}, {version['share']:.4g} of requests"
        console.print(Text(f"{title}, {decision['prompt_tokens']} prompt tokens"))
        console.print(_table(version))
        console.print(Text(f"{version['winner'] or 'nobody'}: {version['why']}\n"))


def _table(version: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("backend", "predicted TTFT", "weight", "score", "burn", "in flight", "prefilling", "refused"):
        table.add_column(column, overflow="fold")
    for each in version["candidates"]:
        table.add_row(
            Text(each["backend"]),
            f"{each['predicted_ttft_seconds'] * 1000:.1f} ms",
            f"{each['weight']:.2f}",
            f"{each['score'] * 1000:.1f} ms",
            f"{each['burn']:.2f}",
            str(each["in_flight"]),
            str(each["prefilling_tokens"]),
            Text(each["refused"]),
        )
    return table
