"""`tidegate canary`: how a rollout fares, and what a person may do to it."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import RenderableType
from rich.text import Text

from gateway.cli.asking import ADMIN, Admin, AsJson, Reason, answer_of, ask, console, table
from gateway.cli.names import Model
from gateway.cli.watching import Interval, Watch, print_found, watch
from gateway.policy.canary.words import counted

app = typer.Typer(help="Watch and control the rollout of a new version.", no_args_is_help=True)


@app.command()
def status(
    model: Model,
    admin: Admin = ADMIN,
    *,
    watching: Watch = False,
    interval: Interval = 2.0,
    as_json: AsJson = False,
) -> None:
    """Show a rollout: its state, what it waits for, its history."""
    path = f"/admin/models/{quote(model)}/canary"
    if watching:
        watch(lambda: answer_of(admin, "GET", path), lambda found, _: _shown(found), interval, as_json=as_json)
    else:
        _show(ask(admin, "GET", path), as_json=as_json)


@app.command()
def report(model: Model, admin: Admin = ADMIN, *, as_json: AsJson = False) -> None:
    """Compare candidate and stable, SLI by SLI."""
    found = ask(admin, "GET", f"/admin/models/{quote(model)}/canary/report")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    screen = console()
    screen.print(
        Text(f"{found['model']}: {found['phase'].replace('_', ' ')}, candidate at {found['weight']:g} % of requests\n")
    )
    screen.print(
        table(
            ["version", "requests", "failed", "prompt tokens", "output tokens", "TTFT p50/p95/p99", "TPOT p50/p95/p99"],
            [
                [
                    each["version"],
                    f"{each['requests']:,}",
                    f"{each['failed']:,}",
                    f"{each['prompt_tokens']:,}",
                    f"{each['output_tokens']:,}",
                    _milliseconds(each["ttft"]),
                    _milliseconds(each["tpot"]),
                ]
                for each in found["versions"]
            ],
            ["output tokens", "prompt tokens"],
        )
    )
    screen.print()
    screen.print(
        table(
            ["SLI", "stable missed", "candidate missed", "set aside", "worst case", "e-value"],
            [
                [
                    each["sli"],
                    _share(each["stable_bad"], each["stable_total"]),
                    _share(each["candidate_bad"], each["candidate_total"]),
                    f"{each['set_aside']:,}",
                    "-" if each["worst_difference"] is None else f"{each['worst_difference'] * 100:.2f} points",
                    f"{each['e_value']:g}",
                ]
                for each in found["slis"]
            ],
            ["set aside", "worst case"],
        )
    )
    phase = "" if found["phase"] == "step" else f", {found['phase'].replace('_', ' ')}"
    screen.print(Text(f"\ne-value {found['e_value']:g} of {found['roll_back_at']:g}{phase}: {found['decision']}"))
    for note in found.get("notes", ()):
        screen.print(Text(note))


DespiteBudget = Annotated[
    bool, typer.Option("--despite-budget", help="Proceed step by step although little of the error budget is left.")
]


def _command(action: str, text: str) -> None:
    def act(model: Model, reason: Reason = "", admin: Admin = ADMIN, *, as_json: AsJson = False) -> None:
        _act(action, model, admin, {"reason": reason}, as_json=as_json)

    act.__doc__ = text
    app.command(action)(act)


def _command_with_budget(action: str, text: str) -> None:
    def act(
        model: Model,
        reason: Reason = "",
        admin: Admin = ADMIN,
        *,
        despite_budget: DespiteBudget = False,
        as_json: AsJson = False,
    ) -> None:
        _act(action, model, admin, {"reason": reason, "despite_budget": despite_budget}, as_json=as_json)

    act.__doc__ = text
    app.command(action)(act)


def _act(action: str, model: str, admin: str, body: dict[str, Any], *, as_json: bool) -> None:
    _show(ask(admin, "POST", f"/admin/models/{quote(model)}/canary/{action}", json=body), as_json=as_json)


_command_with_budget("start", "Start a rollout, or restart one that was rolled back.")
_command("pause", "Keep the rollout at its current step.")
_command_with_budget("resume", "Continue a paused rollout. The hold time of its step starts again.")
_command("promote", "Give all requests to the candidate now.")
_command("rollback", "Give all requests to stable now.")


def phase_words(rollout: Mapping[str, Any]) -> str:
    """Return the phase of a rollout in words, with its step where it is in one."""
    phase = str(rollout["phase"]).replace("_", " ")
    if phase not in {"step", "paused"}:
        return phase
    steps, share = rollout["steps"], rollout["weight"]
    if not rollout["step"]:
        where = f"before step 1 of {len(steps)}"
        return f"paused {where}" if phase == "paused" else f"{where}, while {rollout['mirror']:g} % are copied"
    passed = sum(step < share for step in steps)
    if share and share not in steps and passed < len(steps):
        # The share of a list of steps that has been replaced since.
        between = f"steps {passed} and {passed + 1}" if passed else "the start and step 1"
        where = f"between {between} of {len(steps)} (next: {steps[passed]:g} %)"
        return f"paused {where}" if phase == "paused" else where
    step = f"step {rollout['step']} of {len(steps)}"
    return f"paused in {step}" if phase == "paused" else step


def standing(found: dict[str, Any]) -> str:
    """Return what a rollout waits for, or why it stands where it does."""
    requests, by = counted(found["requests_in_step"], "request"), f"by {found['actor']}"
    match found["phase"]:
        case "step":
            return f"{requests} in this step: {found['decision']}"
        case "paused":
            return f"paused {by}: {found['reason']}; {requests} since then"
        case "promoted" | "rolled_back" as phase:
            return f"{phase.replace('_', ' ')} {by}: {found['reason']}"
        case "waiting":
            if found["decision"].startswith(f"{found['candidate']} is ready"):
                return f"started {by}: {found['candidate']} is ready, and gets its first requests now"
            return f"started {by}, and waits: {found['decision']}"
        case _:
            return str(found["decision"])


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    print_found(found, lambda found, _: _shown(found), as_json=as_json)


def _shown(found: dict[str, Any]) -> Iterator[RenderableType]:
    budget = found["error_budget_remaining"]
    left = "" if budget is None else f", {budget * 100:.1f} % of the error budget left"
    yield Text(f"{found['model']}: {found['stable']} -> {found['candidate']}")
    yield Text(f"{phase_words(found)}, candidate at {found['weight']:g} % of requests{left}")
    yield Text(standing(found))
    for line in (found.get("failing"), found["outlook"], *found["notes"]):
        if line:
            yield Text(line)
    if found["command"]:
        yield Text(f"next: {found['command']}")
    yield Text()
    rows = [
        [
            each["at"][:19].replace("T", " "),
            each["phase"].replace("_", " "),
            f"{each['weight']:g} %",
            each["actor"],
            each["reason"],
        ]
        for each in found["history"]
    ]
    yield table(["when (UTC)", "phase", "candidate", "who", "why"], rows, ["who"])


def _share(bad: int, total: int) -> str:
    return f"{bad:,} of {total:,}" + (f" ({bad / total * 100:.2f} %)" if total else "")


def _milliseconds(quantiles: dict[str, float | None]) -> str:
    return " / ".join("-" if value is None else f"{value * 1000:.0f}" for value in quantiles.values()) + " ms"
