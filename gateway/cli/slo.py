"""`tidegate slo`: objectives, burn rates, budgets and alerts of models, as tables; with `--watch` again and again."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gateway.cli.asking import ADMIN, Admin, AsJson, answer_of, found_by, table
from gateway.cli.default_command import ShowByDefault
from gateway.cli.names import models_of_slo
from gateway.cli.problems import alert_words
from gateway.cli.status import BURNS, budget_words, burn_rate, burn_rates
from gateway.cli.suggest import suggest
from gateway.cli.watching import Interval, Watch, print_found, watch
from gateway.config.durations import format_duration, parse_duration
from gateway.policy.slo.objective import Target
from gateway.policy.slo.words import limits_of, target_words

app = typer.Typer(cls=ShowByDefault, help="Show burn rates, error budgets and alerts of models.")
_MOST_BURNERS = 3
"""Of each SLI and kind so many are shown; `--json` has all."""
_ATTEMPTS = frozenset({"pool", "backend"})
_WIDE = 120
"""On a terminal of fewer columns only the windows of `tidegate status` are shown."""


@app.command(name=ShowByDefault.default)
def slo(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="Model or alias.", show_default="all models", autocompletion=models_of_slo
        ),
    ] = None,
    admin: Admin = ADMIN,
    *,
    watching: Watch = False,
    interval: Interval = 2.0,
    as_json: AsJson = False,
) -> None:
    """Show burn rates, error budgets and alerts of each SLI.

    The exit code is 1 if an alert fires; with --watch it is 0 after Ctrl-C.
    """

    def look() -> list[dict[str, Any]]:
        return _look(admin, model)

    def told(found: list[dict[str, Any]]) -> Any:
        return found if model is None else found[0]

    if watching:
        watch(lambda: told(look()) if as_json else look(), _shown, interval, as_json=as_json)
        return
    found = found_by(look)
    print_found(told(found) if as_json else found, _shown, as_json=as_json)
    if any(_firing(each) for each in found):
        raise typer.Exit(1)


app.command()(suggest)


def _look(admin: str, model: str | None) -> list[dict[str, Any]]:
    """Return what the gateway tells of a model, or of each, with whose the failures of the last hour were."""
    status = answer_of(admin, "GET", "/admin/status")
    names = [model] if model else [each["name"] for each in status["models"]]
    found = [answer_of(admin, "GET", f"/admin/models/{quote(name)}/slo") for name in names]
    return [each | {"burners": list(_burners(status, each["model"]))} for each in found]


def _burners(status: dict[str, Any], model: str) -> Iterator[dict[str, Any]]:
    for objective in status.get("objectives", ()):
        for each in objective.get("burners", ()) if objective["model"] == model else ():
            yield {"objective": objective["objective"], "sli": objective["sli"], **each}


def _firing(found: dict[str, Any]) -> list[dict[str, Any]]:
    alerts = (alert for _, sli in _slis(found) for alert in sli["alerts"])
    return [alert for alert in alerts if alert["state"] == "firing"]


def _slis(found: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every SLI of every subject; the only version of a model is the model, and not told a second time."""
    versions = sum(subject["subject"] == "version" for subject in found["subjects"])
    for subject in found["subjects"]:
        for sli in subject["slis"] if subject["subject"] != "version" or versions > 1 else ():
            yield subject, sli


def _shown(found: Iterable[dict[str, Any]], width: int) -> Iterator[RenderableType]:
    return (part for each in found for part in _parts(each, width))


def _parts(found: dict[str, Any], width: int) -> Iterator[RenderableType]:
    yield Text(found["model"], style="bold")
    for objective in found["objectives"]:
        yield from _targets(objective, alone=len(found["objectives"]) == 1)
    for alert in found.get("alerts", ()):
        yield Text(f"! {alert['severity']}: {alert_words(alert)}")
    yield Text()
    yield _users(found, BURNS if width < _WIDE else _windows(found))
    yield Text()
    yield from _alerts(found)
    if found["burners"]:
        yield _who(found["burners"])
        yield Text()
    yield _attempts(found)
    yield Text()


def _targets(objective: dict[str, Any], *, alone: bool) -> Iterator[RenderableType]:
    """Yield the targets of an objective, with what they can and cannot show."""
    window = parse_duration(objective["window"])
    classes = ", ".join(objective["classes"])
    whose = f"class {classes}" if classes else "all classes" if alone else "all other classes"
    yield Text(f"objective {objective['name']} ({whose}), over {objective['window']}:")
    for target in objective["targets"]:
        words = f"{target['sli']} {target_words(target['target'])}{_thresholds(target['thresholds'])}"
        yield Text(f"  {words}; {'; '.join(limits_of(Target(target['target']), window)[:2])}")
    yield Text(f"  goodput: {_goodput(objective['goodput'])}")


def _goodput(goodput: dict[str, Any]) -> str:
    total = goodput["good"] + goodput["bad"]
    if not total:
        return "no events yet"
    share = f"{goodput['good'] / total * 100:.4g} %"
    return f"{goodput['good']:,} of {total:,} requests since the start ({share}) met every target"


def _thresholds(steps: list[dict[str, Any]]) -> str:
    if not steps:
        return ""
    first, *more = steps
    later = (f"{format_duration(each['seconds'])} from {each['prompt_tokens']:,} prompt tokens" for each in more)
    return f" within {', '.join((format_duration(first['seconds']), *later))}"


def _users(found: dict[str, Any], windows: Sequence[str]) -> Table:
    """Burn rates of what users experience, and budgets in words; without events a rate is not shown as 0."""
    rows = []
    for subject, sli in _slis(found):
        if subject["subject"] in _ATTEMPTS:
            continue
        prompts = f" {sli['prompt_tokens']} tokens" if sli["prompt_tokens"] else ""
        shown = _rates(sli, windows)
        rows.append([subject["name"], sli["objective"], sli["sli"] + prompts, *shown, budget_words(sli["budget"])])
    columns = ["burn rate of", "objective", "SLI", *windows, "budget"]
    return table(
        columns, rows, [*reversed(windows[2:]), "objective", windows[1]] if len(windows) > 1 else ["objective"]
    )


def _rates(sli: dict[str, Any], windows: Sequence[str]) -> Iterator[str]:
    rates = {each["window"]: each["burn"] for each in sli["windows"]}
    return burn_rates(windows, rates, {each["window"]: each["coverage"] for each in sli["windows"]})


def _windows(found: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(each["window"] for _, sli in _slis(found) for each in sli["windows"]))


def _alerts(found: dict[str, Any]) -> Iterator[RenderableType]:
    """Yield the alerts that are not inactive, or a sentence that there are none; then what other alerts wait for."""
    rows = [
        [
            subject["name"],
            sli["objective"],
            sli["sli"],
            f"{alert['severity']} {alert['long_window']}/{alert['short_window']}",
            f"{alert['state']} since {alert['since'][:16].replace('T', ' ')} UTC" if alert["since"] else alert["state"],
            f"{burn_rate(alert['long_burn'])} x {_weight(alert['weight'])}, {burn_rate(alert['short_burn'])}",
            f"{alert['factor']:g}",
        ]
        for subject, sli in _slis(found)
        for alert in sli["alerts"]
        if alert["state"] != "inactive"
    ]
    if rows:
        columns = ["alert of", "objective", "SLI", "pair", "state", "burn x time in use, short", "fires above"]
        yield table(columns, rows, ["fires above", "objective"])
    else:
        total = sum(window["good"] + window["bad"] for _, sli in _slis(found) for window in sli["windows"])
        yield Text("no alert fires" if total else "no events yet: no alert can fire")
    for subject, sli in _slis(found):
        if sli.get("waiting"):
            yield Text(f"{sli['sli']} of {subject['name']} ({sli['objective']}) {sli['waiting']}")
    yield Text()


def _who(burners: list[dict[str, Any]]) -> Table:
    """Return whose the failures of the last hour were: of each kind the worst few."""
    rows, seen = [], Counter[tuple[str, ...]]()
    for each in burners:
        group = (each["objective"], each["sli"], each["kind"])
        seen[group] += 1
        if seen[group] <= _MOST_BURNERS:
            total = f"{each['total']:,}" if each["total"] else "-"
            rows.append([each["sli"], each["objective"], each["kind"], each["name"], f"{each['bad']:,}", total])
    return table(["who burns it", "objective", "by", "name", "missed in the last hour", "of"], rows, ["objective"])


def _weight(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _attempts(found: dict[str, Any]) -> Table:
    rows = []
    for subject, sli in _slis(found):
        if subject["subject"] in _ATTEMPTS:
            shown = _rates(sli, ("1m", "5m", "1h", "1d"))
            rows.append([subject["name"], sli["objective"], sli["sli"], *shown])
    return table(
        ["burn rate of attempts at", "objective", "SLI", "1m", "5m", "1h", "1d"], rows, ["1d", "objective", "1m"]
    )
