"""`tidegate status`: how a running gateway, its objectives, rollouts, queues and backends are, and what is wrong."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from gateway.cli.asking import ADMIN, Admin, AsJson, NoAnswerError, answer_of, found_by, table
from gateway.cli.canary import phase_words
from gateway.cli.names import tenants
from gateway.cli.problems import notes, pools_without_ejections, problems
from gateway.cli.watching import Interval, Parts, Watch, print_found, watch
from gateway.config.durations import parse_duration
from gateway.policy.slo.words import duration, target_words

_HALF, _MOST_LIMITS = 0.5, 10
BURNS = ("5m", "1h", "6h", "3d")


Tenant = Annotated[
    str,
    typer.Option(
        help="Show the limits of this tenant, however much is left.", show_default="none", autocompletion=tenants
    ),
]


def status(
    admin: Admin = ADMIN,
    *,
    tenant: Tenant = "",
    watching: Watch = False,
    interval: Interval = 2.0,
    as_json: AsJson = False,
) -> None:
    """Show objectives, rollouts, queues, backends and problems.

    For each problem it suggests a command. The exit code is 1 if there is a problem: a firing alert, a model whose last
    five or more requests all failed, an overspent budget, a backend that is ejected or not ready, or whose last three
    or more attempts all failed while requests are answered elsewhere, a place where backends are found that cannot be
    asked, a failing candidate, a paused rollout, route files that were not applied, state that cannot be saved or is in
    the file of a gateway with other routes, limits that are not shared with other machines, an upgrade that failed.
    With --watch, problems come first, and it is 0 after Ctrl-C.
    """

    def look() -> dict[str, Any]:
        return _look(admin, tenant)

    if watching:
        watch(look, lambda found, _: _problems_first(found), interval, as_json=as_json)
        return
    found = found_by(look)
    print_found(found, lambda found, _: _problems_last(found), as_json=as_json)
    if found["problems"]:
        raise typer.Exit(1)


def _look(admin: str, tenant: str) -> dict[str, Any]:
    """Return what the gateway tells, with its problems and notes."""
    found = answer_of(admin, "GET", "/admin/status", params={"tenant": tenant} if tenant else None)
    if tenant and not found["tenants"]:
        raise NoAnswerError(f"the routes name no tenant `{tenant}`")
    return {**found, "problems": [asdict(each) for each in problems(found)], "notes": notes(found)}


def _problems_first(found: dict[str, Any]) -> Parts:
    return (*_head(found), *_problems(found), Text(), *_whole(found))


def _problems_last(found: dict[str, Any]) -> Parts:
    return (*_head(found), *_whole(found), *_problems(found))


def _head(found: dict[str, Any]) -> Iterator[Text]:
    state = "draining" if found["draining"] else "serving"
    up = f"up {found['uptime_seconds']:,.0f} s, {found['in_flight']} in flight, {found['client_connections']} clients"
    yield Text(f"tidegate {found['version']}, {state}, {up}")
    told = [fleet_words(found["state"]), quota_words(found["state"])] if "state" in found else []
    yield Text("".join(f"{each}\n" for each in told if each))


def _whole(found: dict[str, Any]) -> Parts:
    for shown in _tables(found):
        if shown.row_count:
            yield shown
            yield Text()


def _problems(found: dict[str, Any]) -> Iterator[Text]:
    """Yield what is wrong, and what explains the rest."""
    waiting = [each for each in found.get("objectives", ()) if each.get("waiting")]
    for each in waiting:
        yield Text(f"{each['sli']} of {each['model']} ({each['objective']}) {each['waiting']}")
    if not found["problems"]:
        yield Text("no alert fires, and no other problem was found" if waiting else "no problem found")
    for each in found["problems"]:
        yield Text(f"! {each['what']}")
        yield Text(f"    {each['command']}")
    for note in found["notes"]:
        yield Text(f"note: {note}")


def _tables(found: dict[str, Any]) -> Iterator[Table]:
    yield _workers(found)
    yield members_table(found)
    yield _objectives(found)
    yield _rollouts(found)
    yield _models(found)
    yield _backends(found)
    yield _origins(found)
    yield limits_table(found)


def _workers(found: dict[str, Any]) -> Table:
    """Return the table of worker processes, empty for a gateway that has none."""
    return table(
        ["worker", "generation", "state", "since (UTC)", "requests", "leads"],
        [
            [
                str(each["pid"]),
                str(each["generation"]),
                "old routes" if each["problem"] else each["stage"],
                each["since"][:19].replace("T", " "),
                f"{each['requests']:,}",
                "yes" if each["leads"] else "-",
            ]
            for each in found.get("workers", ())
        ],
        ["since (UTC)"],
    )


def fleet_words(state: dict[str, Any]) -> str:
    """Return in a line who shares the state, who leads, and how old what is shared has become.

    While it cannot be saved, it is not known who is alive, and who leads may lead no more.
    """
    fleet = state.get("fleet")
    if not fleet:
        return f"state in {state['where']}"
    if state.get("not_saved"):
        saved = "nothing saved yet" if fleet["saved_seconds"] is None else f"last saved {_ago(fleet['saved_seconds'])}"
        read = "" if state["read_seconds"] is None else f", others last read {_ago(state['read_seconds'])}"
        return f"state in {state['where']}: not saved now, {saved}{read}"
    alive, leader = fleet["alive"], fleet["leader"]
    leads = "this one leads" if leader == fleet["name"] else f"{leader or 'none'} leads"
    told = [
        "processes are not counted yet" if alive is None else f"{alive:,} process{'es' * (alive != 1)} alive, {leads}",
        f"saved {_ago(fleet['saved_seconds'])}",
        f"others read {_ago(state['read_seconds'])}",
    ]
    return f"state in {state['where']}: {', '.join(told)}"


def quota_words(state: dict[str, Any]) -> str:
    """Return in a line how the limits of tenants are shared, "" where they apply to this machine alone."""
    quotas = state.get("quotas")
    if not quotas:
        return ""
    heard, machines = quotas["heard_seconds"], quotas["machines"]
    if quotas["alone"]:
        since = "since its start" if heard is None else f"for {duration(max(1.0, heard))}"
        return f"limits of tenants: this machine has heard nothing of others {since}, and goes on alone"
    return f"limits of tenants: shared by {machines:,} machine{'s' * (machines != 1)}, others heard {_ago(heard)}"


def limits_table(found: dict[str, Any]) -> Table:
    """Return the table of limits that machines share: at most ten, those of which most is used."""
    quotas = found.get("state", {}).get("quotas") or {}
    rows = sorted(quotas.get("limits", ()), key=lambda each: float(each["left"]) / each["allowed"])
    return table(
        ["tenant", "limit", "allowed", "left", "used here", "used elsewhere", "others heard", "takes of refill"],
        [
            [
                each["tenant"],
                each["limit"].replace("_", " "),
                *(f"{each[key]:,}" for key in ("allowed", "left", "used_here", "used_elsewhere")),
                _ago(each["heard_seconds"]),
                "all" if each["part"] is None else f"{each['part']:.0%}",
            ]
            for each in rows[:_MOST_LIMITS]
        ],
        ["takes of refill", "others heard", "allowed"],
    )


def _ago(seconds: float | None) -> str:
    return "not yet" if seconds is None else f"{seconds:,.1f} s ago"


def members_table(found: dict[str, Any]) -> Table:
    """Return the table of gateways that share the state, empty where these are the workers of this one.

    It is empty too while the state cannot be saved: who had saved before that may be gone.
    """
    state = found.get("state", {})
    fleet = state.get("fleet") or {}
    members = () if state.get("not_saved") else fleet.get("members", ())
    own = max(1, len(found.get("workers", ())))
    return table(
        ["process", "saved", "leads"],
        [
            [
                f"{each['name']}{' (this one)' if each['name'] == fleet['name'] else ''}",
                _ago(each["wrote_seconds"]),
                "yes" if each["leads"] else "-",
            ]
            for each in (members if (fleet.get("alive") or 0) > own else ())
        ],
    )


def _objectives(found: dict[str, Any]) -> Table:
    """Return the table of objectives; the budget is last since it is a sentence, and no burn rate is without events."""
    return table(
        ["model", "objective", "SLI", "target", *(f"burn {window}" for window in BURNS), "alert", "budget"],
        [
            [
                each["model"],
                each["objective"],
                each["sli"],
                target_words(each["target"]),
                *burn_rates(BURNS, each["burn"], each.get("coverage", {})),
                each["alert"] or "-",
                budget_words(each["budget"]),
            ]
            for each in found.get("objectives", ())
        ],
        ["burn 3d", "burn 6h", "objective", "target", "burn 1h"],
    )


def burn_rates(windows: Sequence[str], rates: dict[str, float | None], coverage: dict[str, float]) -> Iterator[str]:
    """Yield the burn rate of each window, "-" for one whose history is so short that a shorter window says the same.

    The first window is always shown, with the seconds counted so far where that is less than half of it.
    """
    for place, window in enumerate(windows):
        rate, covered = rates.get(window), coverage.get(window, 1.0)
        if rate is None or covered >= _HALF:
            yield burn_rate(rate)
        else:
            yield "-" if place else f"{burn_rate(rate)} ({covered * parse_duration(window):.0f} s)"


def burn_rate(value: float | None) -> str:
    """Return a burn rate, "-" where no event was seen."""
    return "-" if value is None else f"{value:.2f}"


def budget_words(budget: dict[str, Any]) -> str:
    """Return an error budget in words; without events nothing is claimed of it."""
    return str(budget["words"]) if budget["total"] else "no events yet"


def _rollouts(found: dict[str, Any]) -> Table:
    rows = []
    for each in found.get("rollouts", ()):
        told = (each.get("failing", ""), each["decision"], each.get("outlook", ""), *each.get("notes", ()))
        waits = "; ".join(filter(None, told))
        versions = f"{each['stable']} -> {each['candidate']}"
        rows.append(
            [
                each["model"],
                versions,
                phase_words(each),
                f"{each['weight']:g} %",
                f"{each['requests_in_step']:,}",
                waits,
            ]
        )
    columns = ["model", "rollout", "phase", "candidate gets", "requests in step", "waits for, or why"]
    return table(columns, rows, ["requests in step"])


def _models(found: dict[str, Any]) -> Table:
    return table(
        ["model", "version", "share", "pools", "waiting"],
        [
            [
                model["name"],
                version["name"],
                f"{version['weight'] * 100:g} %",
                ", ".join(version["pools"]),
                waiting_words(version),
            ]
            for model in found["models"]
            for version in model["versions"]
        ],
    )


def waiting_words(version: dict[str, Any]) -> str:
    """Return how many requests for a version wait, by class, and which of them a higher class holds back."""
    held = version.get("held_back", ())
    return ", ".join(
        f"{count:,} {name}{' (held back for a higher class)' * (name in held)}"
        for name, count in version["waiting"].items()
        if count or name in held
    )


def _backends(found: dict[str, Any]) -> Table:
    ignored = pools_without_ejections(found)
    return table(
        ["backend", "state", "ejection", "weight", "in flight", "limit", "KV tokens"],
        [
            [
                each["id"],
                state_words(each),
                each["ejection"].replace("_", " ")
                + (" (ignored)" if each["ejection"] == "ejected" and each["pool"] in ignored else ""),
                f"{each['weight']:.2f}",
                str(each["in_flight"]),
                str(each["limit"] or "-"),
                f"{each['kv_tokens']:,}" + (f" of {each['kv_capacity']:,}" if each["kv_capacity"] else ""),
            ]
            for each in found["backends"]
        ],
        ["weight", "KV tokens", "limit"],
    )


def state_words(backend: dict[str, Any]) -> str:
    """Return the state of a backend in a word or two, without its ejection."""
    if backend["drained"]:
        return "drained"
    if backend.get("leaving"):
        return "leaving"
    if backend["state"] == "ready" and (backend.get("asleep") or backend.get("warming")):
        return "asleep" if backend.get("asleep") else "warming"
    return str(backend["state"]).replace("_", " ")


def _origins(found: dict[str, Any]) -> Table:
    return table(
        ["found by", "pools", "backends", "leaving", "last answer", "problem"],
        [
            [
                each["origin"],
                ", ".join(each["pools"]),
                str(each["targets"]),
                str(each["leaving"]),
                "none yet" if each["age_seconds"] is None else f"{each['age_seconds']:,.0f} s ago",
                each["problem"] or "-",
            ]
            for each in found.get("discovery", ())
        ],
        ["leaving", "last answer"],
    )
