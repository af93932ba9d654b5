"""`tidegate check`: says whether route files are right, and what they mean."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.check_capacity import (
    budgets_as_json,
    budgets_table,
    capacity_as_json,
    capacity_table,
    from_zero_table,
)
from gateway.cli.tables import PlainTable
from gateway.cli.targets import percent, target_rows
from gateway.config.durations import format_duration
from gateway.config.itself import Listening
from gateway.config.load import LoadedRoutes, load
from gateway.config.origins import FileOrigin, Origin
from gateway.config.problems import RoutesError
from gateway.config.rollouts import DENSEST, RAREST, expected, stalling
from gateway.config.schema import json_schema
from gateway.config.table import FIRST_TOKEN, LONGEST, STALL, Discovery, ModelSpec, PoolSpec, RouteTable
from gateway.discovery.expanding import origins_of
from gateway.discovery.target_file import read_targets
from gateway.policy.canary.plan import LAST
from gateway.policy.canary.words import span
from gateway.policy.routing.rules import ANY, Span, When
from gateway.policy.routing.waking import ScaleFromZero
from gateway.policy.slo.alerts import FASTEST, Severity
from gateway.policy.slo.objective import Objective, Target
from gateway.policy.slo.words import fewest_words, limits_of, outage_words

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
        typer.echo(json.dumps(_as_json(loaded), indent=2))
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
    for objective in _objectives(table):
        factor = f"{FASTEST.factor(objective.window):.4g}"
        for target in dict.fromkeys(target.ratio for target in objective.targets.values()):
            slis = [(sli, each) for sli, each in objective.targets.items() if each.ratio == target]
            (_, of), names = slis[0], ", ".join(sli for sli, _ in slis)
            fewest, outage = fewest_words(Severity.PAGE, of, objective.window), outage_words(of, objective.window)
            shown.row(objective.name, names, factor, fewest, outage)
    return shown


def _objectives(table: RouteTable) -> Iterable[Objective]:
    return {objective.name: objective for model in table.models.values() for objective in model.objectives}.values()


def _limits(table: RouteTable) -> list[str]:
    """Return what the alerts of each objective cannot detect, in words."""
    return [
        f"{objective.name}, {sli} {percent(target)}: {'; '.join(limits_of(target, objective.window))}"
        for objective in _objectives(table)
        for sli, target in objective.targets.items()
    ]


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
            shown.row(name, _when(rule.when), ", ".join(rule.use), f"{rule.spill_at_burn:g}")
            name = ""
    return shown


def _when(when: When) -> str:
    """Whose rule it is, in words."""
    named = (("path", when.endpoints), ("class", when.classes), ("tenant", when.tenants))
    counted = (("prompt tokens", when.prompt_tokens), ("max_tokens", when.max_tokens))
    held = (("tools", when.tools), ("images", when.images))
    asked = [f"{what} {' or '.join(sorted(names))}" for what, names in named if names]
    asked += [f"{what} {_span(span)}" for what, span in counted if span != ANY]
    asked += [f"{'with' if wanted else 'without'} {what}" for what, wanted in held if wanted is not None]
    return ", ".join(asked) or "all requests"


def _span(span: Span) -> str:
    return f"up to {span.most:g}" if span.least <= 0 else f"from {span.least:g}"


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


def _as_json(loaded: LoadedRoutes) -> dict[str, Any]:
    table = loaded.table
    return {
        "ok": True,
        "sources": table.sources,
        "warnings": [asdict(warning) for warning in loaded.warnings],
        "notes": _limits(table),
        "models": {name: _model_as_json(model) for name, model in table.models.items()},
        "pools": {name: _pool_as_json(pool) for name, pool in table.pools.items()},
        "budgets": budgets_as_json(table),
    }


def _model_as_json(model: ModelSpec) -> dict[str, Any]:
    return {
        "aliases": model.aliases,
        "versions": {
            version.name: {"pools": version.pools, "served_model": version.served_model}
            for version in model.versions.values()
        },
        "split": dict(model.split),
        "canary": asdict(model.canary) if model.canary is not None else None,
        "rules": [
            {"when": _when(rule.when), "use": rule.use, "spill_at_burn": rule.spill_at_burn} for rule in model.rules
        ],
        "timeouts_seconds": asdict(model.timeouts),
        "objective": _objective_as_json(model.objective),
        "objective_by_class": {name: _objective_as_json(each) for name, each in model.objective_by_class.items()},
    }


def _objective_as_json(objective: Objective) -> dict[str, Any]:
    return {
        "name": objective.name,
        "window_seconds": objective.window,
        "targets": {sli: _target_as_json(target) for sli, target in objective.targets.items()},
    }


def _target_as_json(target: Target) -> dict[str, Any]:
    if not target.under:
        return {"ratio": target.ratio}
    return {"ratio": target.ratio, "under_seconds": target.under, "by_prompt_tokens": dict(target.by_prompt_tokens)}


def _from_zero_as_json(settings: ScaleFromZero | None) -> dict[str, Any] | None:
    if settings is None:
        return None
    return {"max_held": settings.max_held, "hold_seconds": settings.hold, "wake": settings.way.value}


def _pool_as_json(pool: PoolSpec) -> dict[str, Any]:
    return {
        "accelerator": pool.accelerator,
        "cost_per_hour": pool.cost_per_hour,
        "warm_up_seconds": pool.warm_up,
        "capacity": capacity_as_json(pool),
        "scale_from_zero": _from_zero_as_json(pool.scale_from_zero),
        "pre_warm": pool.pre_warm,
        "backends": [
            {
                "id": backend.id,
                "url": backend.url,
                "max_concurrency": backend.max_concurrency,
                "has_api_key": backend.api_key is not None,
            }
            for backend in pool.backends
        ],
        "discovered": [
            {
                "origin": str(found.origin),
                "where": dict(found.where),
                "max_concurrency": found.max_concurrency,
                "max_concurrency_label": found.max_concurrency_label,
                "has_api_key": found.api_key is not None,
            }
            for found in pool.discovered
        ],
    }
