"""`tidegate rules`: alerting rules from the objectives in route files."""

import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml

from gateway.config.load import load_routes
from gateway.config.problems import RoutesError
from gateway.config.table import RouteTable
from gateway.rules.engine import engine_slos
from gateway.rules.grafana import dashboard
from gateway.rules.openslo import openslo
from gateway.rules.prometheus import operator_rule, rules_file
from gateway.rules.promtool import unit_tests
from gateway.rules.slo import Document, Scale, Slo, slos
from gateway.rules.sloth import sloth_specs
from gateway.runbooks import RUNBOOKS


class Format(StrEnum):
    """What is written."""

    PROMETHEUS = "prometheus"
    PROMETHEUSRULE = "prometheusrule"
    SLOTH = "sloth"
    OPENSLO = "openslo"
    PROMTOOL_TEST = "promtool-test"
    GRAFANA = "grafana"


_UNSAID = {
    Format.SLOTH: "Sloth writes plain multi-window alerts: minimum evidence and the weight of idle time are left out",
    Format.OPENSLO: "OpenSLO allows one burn rate per condition: minimum evidence, the weight of idle time and the "
    "short window are left out",
}
"""What a format cannot say of the alerts."""


class Origin(StrEnum):
    """Whose metrics the rules read."""

    GATEWAY = "gateway"
    ENGINE = "engine"


def rules(
    routes: Annotated[Path, typer.Argument(metavar="ROUTES", help="Route file, or a folder of them.", exists=True)],
    *,
    output_format: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.PROMETHEUS,
    source: Annotated[
        Origin, typer.Option(help="Whether rules read the metrics of the gateway or of the engines.")
    ] = Origin.GATEWAY,
    out: Annotated[Path | None, typer.Option(help="File to write to.", show_default="standard output")] = None,
    model: Annotated[
        str,
        typer.Option(help="With grafana: the model that the dashboard is about.", show_default="all, to choose from"),
    ] = "",
    rules_path: Annotated[
        str, typer.Option("--rules-file", help="With promtool-test: the rules file to test.")
    ] = "rules.yaml",
    runbook: Annotated[
        str,
        typer.Option(
            help="URL of the page that alerts link to; empty for no link. The SLI is appended as an anchor.",
        ),
    ] = RUNBOOKS,
    time_scale: Annotated[
        float,
        typer.Option(
            help="Shortens every window, for tests and drills: 0.01 turns an hour into 36 s.", min=1e-4, max=1.0
        ),
    ] = 1.0,
) -> None:
    """Write alerting rules, their tests or a dashboard.

    They are made from the objectives in ROUTES. Rules are for Prometheus, its operator, Sloth or OpenSLO: pages and
    tickets on two windows each, as in Google's SRE workbook. Tests are for promtool, the dashboard is for Grafana.
    """
    if source is Origin.ENGINE and output_format in {Format.PROMTOOL_TEST, Format.GRAFANA}:
        raise typer.BadParameter(f"{output_format} is written for the gateway's own metrics", param_hint="--source")
    if model and output_format is not Format.GRAFANA:
        raise typer.BadParameter("only the dashboard can be about one model", param_hint="--model")
    try:
        table = load_routes(routes)
    except RoutesError as error:
        typer.echo(f"{error}\n{error.summary}", err=True)
        raise typer.Exit(1) from None
    if model and model not in table.models:
        raise typer.BadParameter(f"{routes.name} has no model {model!r}", param_hint="--model")
    found = _slos(table, source, runbook, Scale(time_scale))
    if output_format is Format.GRAFANA:
        text = json.dumps(dashboard(found, model), indent=2, ensure_ascii=False) + "\n"
    else:
        text = f"# Made by `tidegate rules` from {routes.name}: regenerate it when an objective changes.\n"
        text += _yaml(_documents(found, output_format, rules_path))
    if output_format in _UNSAID:
        typer.echo(f"warning: {_UNSAID[output_format]}", err=True)
    if out is None:
        typer.echo(text, nl=False)
    else:
        try:
            out.write_text(text)
        except OSError as error:
            typer.echo(f"tidegate: {out} cannot be written: {error.strerror}", err=True)
            raise typer.Exit(1) from None


def _slos(table: RouteTable, source: Origin, runbook: str, scale: Scale) -> list[Slo]:
    if source is Origin.GATEWAY:
        return list(slos(table, runbook, scale))
    found, left_out = engine_slos(table, runbook, scale)
    for words in left_out:
        typer.echo(f"warning: {words}", err=True)
    if not found:
        typer.echo("tidegate: none of these objectives can be measured with an engine's metrics", err=True)
        raise typer.Exit(1)
    return found


def _documents(found: list[Slo], output_format: Format, rules_path: str) -> list[Document]:
    match output_format:
        case Format.PROMETHEUSRULE:
            return [operator_rule(found)]
        case Format.SLOTH:
            return sloth_specs(found)
        case Format.OPENSLO:
            return list(openslo(found))
        case Format.PROMTOOL_TEST:
            return [unit_tests(found, rules_path)]
        case _:
            return [rules_file(found)]


class _Dumper(yaml.SafeDumper):
    """Long queries as blocks, and no anchors: people read this."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML calls it with the node
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _yaml(documents: Iterable[Document]) -> str:
    return yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True, explicit_start=False
    )
