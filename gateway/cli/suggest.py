"""`tidegate slo suggest`: objectives from what was observed, as YAML for a route file."""

import json
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.asking import ADMIN, Admin, AsJson, ask, errors
from gateway.cli.names import ModelOrAlias
from gateway.policy.slo.words import duration, number


def suggest(
    model: ModelOrAlias,
    target: Annotated[float, typer.Option(help="Percentage of latencies that must be good.", min=90, max=99.99)] = 99.0,
    headroom: Annotated[
        float, typer.Option(help="By how many per cent thresholds exceed what was observed.", min=0, max=1000)
    ] = 25.0,
    admin: Admin = ADMIN,
    *,
    as_json: AsJson = False,
) -> None:
    """Propose objectives from observed latencies, as YAML.

    Thresholds depend on prompt length where that makes a difference. Comments say what each target would have cost. The
    exit code is 1 if there are too few data for any.
    """
    query = {"target": target, "headroom": headroom / 100}
    found = ask(admin, "GET", f"/admin/models/{quote(model)}/slo/suggest", params=query)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        typer.echo("\n".join(_lines(found)))
    if not any(each["targets"] for each in found["objectives"]):
        errors.print("tidegate: there are too few data to propose anything yet", markup=False)
        raise typer.Exit(1)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    names = [each["name"] for each in found["objectives"] if each["targets"]]
    yield f"# {found['model']}: thresholds are {100 * found['headroom']:g} % above what was observed."
    if found.get("workers", 1) > 1:
        yield f"# Latencies are those of the requests that {_workers(found)} have answered since they started."
    if names:
        yield f"# Put this into the routes, and name it in the model: `objective: {names[0]}`"
        yield "objectives:"
    for objective in found["objectives"]:
        yield from _objective(objective)


def _workers(found: dict[str, Any]) -> str:
    missing = found["workers"] - found["observed_by"]
    return f"{found['observed_by']} of {found['workers']} workers" if missing else f"all {found['workers']} workers"


def _objective(objective: dict[str, Any]) -> Iterator[str]:
    observed = duration(max(1.0, objective["observed_seconds"]))
    if objective["targets"]:
        yield f"  # in place of {objective['instead_of']}, from {observed} of requests"
        yield f"  {objective['name']}:"
        yield f"    window: {objective['window']}"
    for target in objective["targets"]:
        yield f"    # {_cost(target, objective['window'])}"
        yield f"    {target['sli']}: {{{', '.join(_values(target))}}}"
    for each in objective["too_few"]:
        yield f"    # {each['sli']}: {_too_few(each)}"


def _values(target: dict[str, Any]) -> Iterator[str]:
    yield f"target: {target['target']:g}"
    if target["steps"]:
        first, *longer = target["steps"]
        yield f"under: {first['under']}"
        if longer:
            steps = ", ".join(f"{each['prompt_tokens']}: {each['under']}" for each in longer)
            yield f"by_prompt_tokens: {{{steps}}}"


def _cost(target: dict[str, Any], window: str) -> str:
    total = target["good"] + target["bad"]
    missed = f"{target['bad']:,} of {total:,} {'late' if target['steps'] else 'failed'}"
    seen = ", ".join(f"{each['observed_seconds']:.3g} s" for each in target["steps"])
    at = f"; observed at {target['target']:g} %: {seen}" if seen else ""
    spent = f"{number(100 * target['budget_spent'], 2)} % of the {window} budget"
    return f"{missed}: burn rate {number(target['burn'], 2)}, {spent} in this time{at}"


def _too_few(each: dict[str, Any]) -> str:
    if not each["needed"]:
        return f"of {each['events']:,} too many failed for any target from 95 % on"
    return f"too few data, {each['events']:,} of {each['needed']:,} events"
