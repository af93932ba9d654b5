"""`tidegate drain`, `undrain`, `deployments`, `deploy` and `audit`: running a gateway from a shell."""

import json
import time
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.text import Text

from gateway.cli.asking import (
    ADMIN,
    Admin,
    AsJson,
    NoAnswerError,
    NoAnswerYetError,
    Reason,
    answer_of,
    ask,
    console,
    errors,
    table,
    tell,
)
from gateway.cli.names import BackendId, Model, versions
from gateway.config.durations import parse_timeout
from gateway.policy.canary.words import counted

_PATIENCE, _LOOK = 600.0, 0.5
"""Seconds that `drain --wait` waits at most, and between two looks."""


def drain(
    backend: BackendId,
    reason: Reason = "",
    admin: Admin = ADMIN,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until no request is in flight there.")] = False,
    timeout: Annotated[
        str | None, typer.Option(help="With --wait: for how long at most, such as 90s or 10m.", show_default="10m")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send BACKEND no new requests, even after a restart.

    Open streams go on. With --wait the command ends when the last one has ended, so that the engine may be stopped or
    put to sleep.

    The exit code is 0 when it is drained, 1 if requests are still in flight after the timeout or the gateway refuses,
    2 for wrong use.
    """
    seconds = _seconds(timeout, wait=wait)
    found = ask(admin, "POST", f"/admin/backends/{backend}/drain", json={"reason": reason})
    if not (wait and as_json):
        words = f"{backend} is drained, {counted(found['in_flight'], 'request')} still in flight"
        tell(found, words, as_json=as_json)
    state = ask(admin, "GET", "/admin/status").get("state", {})
    if not state.get("leads", True) and state["where"] != "memory://":
        errors.print(Text(f"not saved: another gateway leads {state['where']}, so a restart will undo this"))
    if wait:
        gone = _wait_until_drained(admin, backend, seconds)
        tell(gone, f"{backend} has no request in flight: it may be stopped", as_json=as_json)


def _seconds(timeout: str | None, *, wait: bool) -> float:
    if timeout is None:
        return _PATIENCE
    if not wait:
        raise typer.BadParameter("it needs --wait", param_hint="--timeout")
    try:
        return parse_timeout(timeout)
    except ValueError as error:
        raise typer.BadParameter(f"{timeout}: {error}", param_hint="--timeout") from None


def _progress(admin: str, backend: str) -> dict[str, Any]:
    """Return how far a backend is drained; one that was named and is no more has been, and gone. Ends when refused."""
    try:
        found: dict[str, Any] = answer_of(admin, "GET", f"/admin/backends/{backend}")
    except NoAnswerYetError:
        raise
    except NoAnswerError as error:
        if error.code == "backend_not_found":
            return {"backend": backend, "draining": True, "drained": True, "in_flight": 0}
        errors.print(Text(f"tidegate: {error}"))
        raise typer.Exit(1) from None
    return found


def _wait_until_drained(admin: str, backend: str, seconds: float) -> dict[str, Any]:
    """Return how a backend is when nothing is in flight there; ends the command with 1 where that takes too long."""
    until, in_flight = time.monotonic() + seconds, -1
    while True:
        with suppress(NoAnswerYetError):
            found = _progress(admin, backend)
            if found["drained"]:
                return found
            if not found["draining"]:
                errors.print(Text(f"{backend} gets requests again: somebody has undrained it"))
                raise typer.Exit(1)
            in_flight = found["in_flight"]
        left = until - time.monotonic()
        if left <= 0:
            words = (
                "the gateway does not answer" if in_flight < 0 else f"{counted(in_flight, 'request')} still in flight"
            )
            errors.print(Text(f"{backend} is not drained after {seconds:g} s: {words}"))
            raise typer.Exit(1)
        time.sleep(min(_LOOK, left))


def undrain(backend: BackendId, reason: Reason = "", admin: Admin = ADMIN, *, as_json: AsJson = False) -> None:
    """Send BACKEND requests again."""
    found = ask(admin, "POST", f"/admin/backends/{backend}/undrain", json={"reason": reason})
    tell(found, f"{backend} gets requests again", as_json=as_json)


def deploy(
    model: Model,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="Version that was deployed.", autocompletion=versions)
    ],
    identity: Annotated[
        str,
        typer.Option(
            "--id", help="Id in the CD system. Registering it again changes nothing.", show_default="a new one"
        ),
    ] = "",
    admin: Admin = ADMIN,
    *,
    as_json: AsJson = False,
) -> None:
    """Register a deployment, to time it until its first answer.

    Its id is printed, which `tidegate stage` takes.
    """
    body = {"model": model, "version": version, "id": identity}
    found = ask(admin, "POST", "/admin/deployments", json=body)
    tell(found, found["id"], as_json=as_json)


class StageName(StrEnum):
    """The stages that a CD system reports."""

    REGISTRY_PULL = "registry_pull"
    IMAGE_PULL = "image_pull"
    PROVISIONING = "provisioning"
    VALIDATION = "validation"


class StageEnd(StrEnum):
    """What a CD system reports of a stage; `started` and `running` are the same."""

    STARTED = "started"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


def stage(
    identity: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Id of the deployment.")],
    name: Annotated[StageName, typer.Argument(metavar="STAGE", help=f"One of {', '.join(StageName)}.")],
    what: Annotated[StageEnd, typer.Argument(metavar="RESULT", help=f"One of {', '.join(StageEnd)}.")],
    started: Annotated[
        str, typer.Option(help="When it started, as 2026-01-31T12:00:00Z.", show_default="when that was reported")
    ] = "",
    admin: Admin = ADMIN,
    *,
    reason: Annotated[str, typer.Option(help="Why it failed.", show_default="none")] = "",
    as_json: AsJson = False,
) -> None:
    """Report a stage of a deployment, to time it.

    Failures are counted. Reporting it again changes nothing.
    """
    result = "running" if what is StageEnd.STARTED else str(what)
    body = {"stage": str(name), "result": result, "reason": reason} | ({"started": started} if started else {})
    found = ask(admin, "PATCH", f"/admin/deployments/{identity}", json=body)
    (told,) = [each for each in found["reported"] if each["stage"] == str(name)]
    tell(found, _reported(told), as_json=as_json)


def _reported(told: dict[str, Any]) -> str:
    took = "" if told["seconds"] is None else f" after {told['seconds']:.1f} s"
    return f"{told['stage'].replace('_', ' ')} {told['result']}{took}"


def deployments(admin: Admin = ADMIN, *, as_json: AsJson = False) -> None:
    """Show the latest deployments, and how long each stage took."""
    found = ask(admin, "GET", "/admin/deployments")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    if not found:
        console().print(Text("no deployment is registered"))
        return
    rows = [
        [
            each["id"],
            f"{each['model']}/{each['version']}",
            each["result"].replace("_", " "),
            ", ".join(f"{stage['stage'].replace('_', ' ')} {stage['seconds']:.1f} s" for stage in each["stages"][1:]),
            ", ".join(map(_reported, each.get("reported", ()))),
            each["reason"],
        ]
        for each in found
    ]
    columns = ["id", "version", "result", "stages", "reported", "why"]
    console().print(table(columns, rows, ["reported", "stages"]))


def audit(
    limit: Annotated[int, typer.Option(help="How many records to show.", min=1, max=1000)] = 20,
    admin: Admin = ADMIN,
    *,
    as_json: AsJson = False,
) -> None:
    """Show who changed what, the latest first."""
    found = ask(admin, "GET", "/admin/audit", params={"limit": limit})
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    if not found:
        console().print(Text("nothing recorded"))
        return
    rows = [
        [each["at"][:19].replace("T", " "), each["actor"], each["action"], each["subject"], each["reason"]]
        for each in found
    ]
    console().print(table(["when (UTC)", "who", "what", "subject", "why"], rows))
