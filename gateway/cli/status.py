"""`tidegate status`: how a running gateway, its models and its backends are."""

import json
from typing import Any

import typer
from rich.text import Text

from gateway.cli.asking import ADMIN, Admin, AsJson, ask, console, table


def status(admin: Admin = ADMIN, *, as_json: AsJson = False) -> None:
    """Show models with whoever waits, backends with their slots, and what is wrong. Exit code 1 when something is.

    A token is taken from TIDEGATE_ADMIN_TOKEN.
    """
    found = ask(admin, "GET", "/admin/status")
    wrong = _wrong(found)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found, wrong)
    if wrong:
        raise typer.Exit(1)


def _print(found: dict[str, Any], wrong: list[str]) -> None:
    screen = console()
    state = "draining" if found["draining"] else "serving"
    up = f"up {found['uptime_seconds']:,.0f} s, {found['in_flight']} in flight, {found['client_connections']} clients"
    screen.print(Text(f"tidegate {found['version']}, {state}, {up}\n"))
    rows = [
        [
            model["name"],
            version["name"],
            f"{version['weight'] * 100:g} %",
            ", ".join(version["pools"]),
            _waiting(version),
        ]
        for model in found["models"]
        for version in model["versions"]
    ]
    screen.print(table(["model", "version", "share", "pools", "waiting"], rows))
    screen.print()
    screen.print(
        table(
            ["backend", "state", "ejection", "weight", "in flight", "limit", "KV tokens"],
            [
                [
                    each["id"],
                    "drained" if each["drained"] else each["state"].replace("_", " "),
                    each["ejection"].replace("_", " "),
                    f"{each['weight']:.2f}",
                    str(each["in_flight"]),
                    str(each["limit"] or "-"),
                    f"{each['kv_tokens']:,}" + (f" of {each['kv_capacity']:,}" if each["kv_capacity"] else ""),
                ]
                for each in found["backends"]
            ],
        )
    )
    for line in wrong:
        screen.print(Text(f"! {line}"))


def _waiting(version: dict[str, Any]) -> str:
    waiting = ", ".join(f"{count} {name}" for name, count in version["waiting"].items() if count)
    held = f"{', '.join(version['held_back'])} held back" if version["held_back"] else ""
    return "; ".join(filter(None, (waiting, held)))


def _wrong(found: dict[str, Any]) -> list[str]:
    """Return what a person should look at."""
    wrong = [f"routes not loaded, the old ones serve: {problem}" for problem in found["routes"]["problems"]]
    for each in found["backends"]:
        if each["state"] == "not_ready":
            wrong.append(f"{each['id']} is not ready: {each['reason']}")
        if each["ejection"] in {"ejected", "half_open"}:
            wrong.append(f"{each['id']} is ejected: {each['ejection_reason']}")
    for model in found["models"]:
        held = sorted({name for version in model["versions"] for name in version["held_back"]})
        if held:
            wrong.append(f"{model['name']} misses its objective: {', '.join(held)} held back")
    return wrong
