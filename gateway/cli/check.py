"""`tidegate check`: says whether route files are right, and what they mean."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.check_capacity import budgets_table, capacity_table, from_zero_table
from gateway.cli.check_json import routes_as_json
from gateway.cli.check_words import objectives_of, when_words
from gateway.cli.tables import PlainTable
from gateway.cli.targets import target_rows
from gateway.config.durations import format_duration
from gateway.config.itself import Listening
from gateway.config.load import LoadedRoutes, load
from gateway.config.origins import FileOrigin, Origin
from gateway.config.problems import RoutesError
from gateway.config.rollouts import DENSEST, RAREST, expected, stalling
from gateway.config.schema import json_schema
from gateway.config.table import FIRST_TOKEN, LONGEST, STALL, Discovery, ModelSpec, RouteTable
from gateway.discovery.expanding import origins_of
from gateway.discovery.target_file import read_targets
from gateway.policy.admission.classes import CLASSES
from gateway.policy.canary.plan import LAST
from gateway.policy.canary.words import span
from gateway.policy.slo.alerts import FASTEST, Severity
from gateway.policy.slo.objective import Objective
from gateway.policy.slo.words import fewest_words, outage_words

_WIDTH_IN_FILES = 160


def check(
    routes: Annotated[
        Path | None,
        typer.Argument(metavar="ROUTES", exists=True, help="Route file, or a folder of them.", show_default=False),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    host: Annotated[
        str, typer.Option(help="Address that the gateway will listen on.", envvar="TIDEGATE_HOST")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port of the gateway. A backend at this address is a problem.", envvar="TIDEGATE_PORT")
    ] = 8080,
    admin_port: Annotated[
        int, typer.Option(help="Admin port of the gateway, likewise.", envvar="TIDEGATE_ADMIN_PORT")
    ] = 9000,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of route files and exit.")] = False,
) -> None:
    """Check route files, and show what they mean.

    The exit code is 0 if they can be served, and 1 if not, with every problem listed.
    """
    if schema:
        typer.echo(json.dumps(json_schema(), indent=2))
        return
    if routes is None:
        raise typer.BadParameter("name a route file or a folder of them", param_hint="ROUTES")
    try:
        loaded = load(routes, listeners=(Listening(host, port), Listening("127.0.0.1", admin_port)))
    except RoutesError as error:
        _print_problems(error, as_json=as_json)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(routes_as_json(loaded), indent=2))
    else:
        _print_routes(loaded)


def _print_problems(error: RoutesError, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"ok": False, "problems": [asdict(problem) for problem in error.problems]}, indent=2))
    else:
        typer.echo(str(error), err=True)
        typer.echo(error.summary, err=True)


def _print_routes(loaded: LoadedRoutes) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH_IN_FILES
    tables = (
        _models_table,
        _canary_table,
        _durations_table,
        _rules_table,
        _objectives_table,
        _pages_table,
        _timeouts_table,
        _pools_table,
        capacity_table,
        from_zero_table,
        budgets_table,
        _classes_table,
        _tenants_table,
    )
    for table in (make(loaded.table) for make in tables):
        if table.row_count:
            console.print(table)
            console.print()
    for found in origins_of(loaded.table):
        if problem := _unreadable(found):
            typer.echo(f"warning: {problem}", err=True)
    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"ok: {', '.join(loaded.table.sources)}")


def _unreadable(origin: Origin) -> str:
    """Return why a file of targets cannot be used at the moment, "" where it can, or is none."""
    if not isinstance(origin, FileOrigin):
        return ""
    try:
        read_targets(Path(origin.path))
    except OSError as error:
        return f"{origin.path}: cannot be read: {error.strerror}; there are no backends of it until it can"
    except ValueError as error:
        return f"{origin.path}: {error}; there are no backends of it until that is put right"
    return ""


def _models_table(table: RouteTable) -> Table:
    shown = PlainTable(("model", "aliases", "version", "share", "pools", "served model"), ("aliases",))
    for model in table.models.values():
        shares = _shares(model)
        names = (model.name, ", ".join(model.aliases))
        for version in model.versions.values():
            share = f"{shares.get(version.name, 0):.4g} %"
            shown.row(*names, version.name, share, ", ".join(version.pools), version.served_model)
            names = ("", "")
    return shown


def _objectives_table(table: RouteTable) -> Table:
    shown = PlainTable(("model", "classes", "objective", "SLI", "target", "good"), ("classes",))
    for model in table.models.values():
        name = model.name
        for objective in model.objectives:
            names = (name, _classes(model, objective), f"{objective.name} ({format_duration(objective.window)})")
            for row in target_rows(objective, of_deployments=objective is model.objective):
                shown.row(*names, *row)
                names = ("", "", "")
            name = ""
    return shown


def _pages_table(table: RouteTable) -> Table:
    """Return what it takes to page, SLIs with the same target in one row; `--json` has the rest in `notes`."""
    shown = PlainTable(("objective", "SLI", "pages above burn rate", "failures needed", "total outage pages after"))
    for objective in objectives_of(table):
        factor = f"{FASTEST.factor(objective.window):.4g}"
        for target in dict.fromkeys(target.ratio for target in objective.targets.values()):
            slis = [(sli, each) for sli, each in objective.targets.items() if each.ratio == target]
            (_, of), names = slis[0], ", ".join(sli for sli, _ in slis)
            fewest, outage = fewest_words(Severity.PAGE, of, objective.window), outage_words(of, objective.window)
            shown.row(objective.name, names, factor, fewest, outage)
    return shown


def _classes(model: ModelSpec, objective: Objective) -> str:
    """Return the classes that an objective applies to, in words."""
    named = [name for name, each in model.objective_by_class.items() if each.name == objective.name]
    others = [name for name, each in model.objective_by_class.items() if each.name != model.objective.name]
    if objective.name == model.objective.name:
        return f"all but {', '.join(others)}" if others else "all"
    return ", ".join(named)


def _timeouts_table(table: RouteTable) -> Table:
    shown = PlainTable(("timeouts", "connect", "first token", "first byte", "stall", "total"))
    for model in table.models.values():
        limits = model.timeouts
        first_byte = "adaptive" if limits.first_byte is None else format_duration(limits.first_byte)
        first_token, stall = _silence(limits.first_token, FIRST_TOKEN), _silence(limits.stall, STALL)
        connect, total = format_duration(limits.connect), format_duration(limits.total)
        shown.row(model.name, connect, first_token, first_byte, stall, total)
    return shown


def _silence(limit: float | None, usual: float) -> str:
    if limit is not None:
        return format_duration(limit)
    return f"{format_duration(usual)} ({format_duration(LONGEST)} while the backend works)"


def _pools_table(table: RouteTable) -> Table:
    shown = PlainTable(
        ("pool", "accelerator", "cost per hour", "backend", "max concurrency", "key"), ("cost per hour", "key")
    )
    for pool in table.pools.values():
        cost = "" if pool.cost_per_hour is None else f"{pool.cost_per_hour:g}"
        kind = (pool.name, pool.accelerator, cost)
        for backend in pool.backends:
            key = "yes" if backend.api_key else ""
            shown.row(*kind, backend.url, str(backend.max_concurrency or "adaptive"), key)
            kind = ("", "", "")
        for found in pool.discovered:
            shown.row(*kind, str(found), _bears(found), "yes" if found.api_key else "")
            kind = ("", "", "")
    return shown


def _bears(found: Discovery) -> str:
    """Return the limit of each backend that is found, in words."""
    usual = str(found.max_concurrency or "adaptive")
    return f"label {found.max_concurrency_label}, or {usual}" if found.max_concurrency_label else usual


def _classes_table(table: RouteTable) -> Table:
    """Return the classes, the one that is served first on top, where the routes have any of their own or tenants."""
    shown = PlainTable(("class", "priority", "waits at most", "refused first", "guaranteed share", "tenants"))
    if not table.tenants and table.classes == CLASSES:
        return shown
    for each in sorted(table.classes.values(), key=lambda each: each.priority):
        tenants = ", ".join(tenant.name for tenant in table.tenants.values() if tenant.service_class == each.name)
        wait, share = format_duration(each.max_queue_wait), f"{100 * each.min_share:g} %" if each.min_share else "-"
        shown.row(each.name, str(each.priority), wait, "yes" if each.sheddable else "-", share, tenants)
    return shown


def _tenants_table(table: RouteTable) -> Table:
    shown = PlainTable(("tenant", "class", "models", "limits"))
    for tenant in table.tenants.values():
        models = "all" if tenant.models is None else ", ".join(sorted(tenant.models))
        limits = (f"{name} {limit:,}" for name, limit in asdict(tenant.limits).items() if limit is not None)
        shown.row(tenant.name, tenant.service_class, models, ", ".join(limits).replace("_", " ") or "none")
    return shown


def _rules_table(table: RouteTable) -> Table:
    shown = PlainTable(("rules", "requests", "pools", "next pool above burn rate"))
    for model in table.models.values():
        name = model.name
        for rule in model.rules:
            shown.row(name, when_words(rule.when), ", ".join(rule.use), f"{rule.spill_at_burn:g}")
            name = ""
    return shown


def _canary_table(table: RouteTable) -> Table:
    shown = PlainTable(
        ("canary", "versions", "steps", "hold", "requests", "mirror", "starts", "on stall"),
        ("mirror", "on stall", "requests"),
    )
    for model in table.models.values():
        plan = model.canary
        if plan is not None:
            shown.row(
                model.name,
                f"{plan.stable} -> {plan.candidate}",
                ("auto: " if plan.is_auto else "") + " ".join(f"{step:g}" for step in plan.shares),
                f"{format_duration(plan.hold)}, last {format_duration(plan.held_for(LAST))}",
                f"{plan.min_requests:,}",
                f"{plan.mirror:g} %",
                "manually" if plan.manual else "when ready",
                plan.on_stall,
            )
    return shown


def _durations_table(table: RouteTable) -> Table:
    """How long each rollout takes until promotion, by traffic: of an equal candidate that fails as seldom as stable."""
    rates = (RAREST, 1.0, 12.0, DENSEST)
    shown = PlainTable(("time to promotion at", *(f"{rate:g} requests/s" for rate in rates)))
    for model in table.models.values():
        if model.canary is not None:
            cells = []
            for rate in rates:
                traffic = expected(model, rate)
                first = traffic.first_step(model.canary)
                late = ", beyond max_hold" if stalling(model.canary, traffic) else ""
                cells.append(f"{span(traffic.rest(model.canary, first))}, from {first:g} %{late}")
            shown.row(model.name, *cells)
    return shown


def _shares(model: ModelSpec) -> dict[str, float]:
    """Per cent of requests by version."""
    total = sum(weight for _, weight in model.split)
    return {name: 100 * weight / total for name, weight in model.split}
