"""The rows of the dashboard, and its panels of what users experience. Each metric is a row of docs/metrics.md."""

from gateway.config.durations import format_duration
from gateway.exchange import UNCOUNTED, Outcome
from gateway.policy.slo.alerts import Severity
from gateway.policy.slo.classify import request_verdict
from gateway.policy.slo.objective import Sli
from gateway.rules.operation_panels import admission, backends, canary, capacity, gateway
from gateway.rules.panel import MODEL, POOL, RATE, Panel, Query, burn, legend, quantiles, rate_by
from gateway.rules.slo import Slo, pairs_of

_WHOLE = f'{MODEL}, version="", prompt_tokens=""'
_NOT_COUNTED = "|".join(each for each in Outcome if request_verdict(each) is UNCOUNTED)
_FAILED = f'outcome!~"ok|{_NOT_COUNTED}"'
_COUNTED = f'outcome!~"{_NOT_COUNTED}"'


def rows(slos: list[Slo]) -> dict[str, tuple[Panel, ...]]:
    """Return the panels of each row, by its title."""
    return {
        "Error budgets and alerts": _budgets(slos),
        "What users experience": _users(slos),
        "Admission": admission(),
        "Backends": backends(),
        "Canary and rollouts": canary(),
        "Capacity": capacity(),
        "The gateway itself": gateway(),
    }


def _budgets(slos: list[Slo]) -> tuple[Panel, ...]:
    targets = "\n".join(f"- {slo.model} ({slo.objective}): {slo.target_words}" for slo in slos if not slo.part.labels)
    names = "{{name}} {{objective}} {{sli}}"
    firing = "max by (model, version, objective, sli, prompt_tokens, severity, long_window)"
    return (
        Panel(
            "Error budget left",
            (
                Query(
                    f"min by (model, objective, sli) (tidegate_error_budget_remaining_ratio{{{_WHOLE}}})",
                    legend("model", "objective", "sli"),
                ),
            ),
            "percentunit",
            "stat",
            about=f"Of the whole SLO window; absent below one day of history. Targets:\n{targets}",
        ),
        *(
            Panel(
                f"Burn rate, {window}",
                (Query(burn("model", "$model", window), names),),
                about="1 spends the budget exactly over the SLO window. Pages need the upper line.",
                lines=(1.0, *factors),
            )
            for window, factors in _page_factors(slos)
        ),
        Panel(
            "Firing alerts",
            (Query(f'{firing} (tidegate_alert_state{{{MODEL}, state="firing"}} == 1)', ""),),
            kind="table",
            about="The gateway's own alerts. No row: none is firing.",
        ),
        Panel(
            "Burn rate by version, 1 h",
            (
                Query(
                    burn("version", "($model)/.*", "1h"),
                    names,
                ),
            ),
        ),
        Panel(
            "Burn rate by backend, 5 m",
            (
                Query(
                    burn("backend", "($pool)/.*", "5m"),
                    names,
                ),
            ),
            about="Of attempts: what a retry hid from users still burns here.",
        ),
        Panel(
            "Prometheus: firing alerts",
            (Query('ALERTS{alertname=~"Tidegate.*", alertstate="firing"}', ""),),
            kind="table",
            about="Alerts of the rules that `tidegate rules` writes.",
        ),
    )


def _users(slos: list[Slo]) -> tuple[Panel, ...]:
    wholes = [slo for slo in slos if not slo.part.labels]
    late = " ".join(f"{slo.model}: {slo.target_words}." for slo in wholes if slo.sli is not Sli.AVAILABILITY)

    def targets(sli: Sli) -> tuple[float, ...]:
        # Those of many models say nothing about the one that is looked at.
        if len({slo.model for slo in wholes}) > 1:
            return ()
        found = [slo.target for slo in wholes if slo.sli is sli]
        found += [target for whole in found for _, target in whole.prompt_classes]
        return tuple(sorted({target.under or target.ratio for target in found}))

    requests = f"sum by (model, version, outcome) (rate(tidegate_requests_total{{{MODEL}}}[{RATE}]))"
    good = rate_by("tidegate_judged_requests_total", f'{MODEL}, verdict="good"', "model", "objective")
    judged = rate_by("tidegate_judged_requests_total", MODEL, "model", "objective")
    tokens = rate_by("tidegate_goodput_tokens_total", MODEL, "model", "version")
    failed = rate_by("tidegate_requests_total", f"{MODEL}, {_FAILED}", "model", "version")
    counted = rate_by("tidegate_requests_total", f"{MODEL}, {_COUNTED}", "model", "version")
    bad = rate_by("tidegate_backend_sli_events_total", f'{POOL}, sli="%s", verdict="bad"', "backend")
    every = rate_by("tidegate_backend_sli_events_total", f'{POOL}, sli="%s"', "backend")
    return (
        Panel("Requests by outcome", (Query(requests, legend("model", "version", "outcome")),), "reqps"),
        Panel(
            "Availability",
            (Query(f"1 - {_share(failed, counted)}", legend("model", "version")),),
            "percentunit",
            lines=targets(Sli.AVAILABILITY),
        ),
        Panel(
            "Goodput: requests that met every target",
            (Query(_share(good, judged), legend("model", "objective")),),
            "percentunit",
        ),
        *(
            Panel(
                f"{sli.upper()} by version", quantiles(f"tidegate_{name}_seconds"), "s", about=late, lines=targets(sli)
            )
            for sli, name in (
                (Sli.TTFT, "time_to_first_token"),
                (Sli.ITL, "inter_token_latency"),
                (Sli.TPOT, "time_per_output_token"),
            )
        ),
        *(
            Panel(
                f"Late {sli.upper()} by backend",
                (Query(_share(bad % sli, every % sli), legend("backend")),),
                "percentunit",
                about="Share of attempts that missed the threshold of their objective.",
            )
            for sli in (Sli.TTFT, Sli.ITL, Sli.TPOT)
        ),
        Panel(
            "Duration",
            quantiles("tidegate_request_duration_seconds"),
            "s",
            about="Of complete answers, to the last byte.",
            lines=targets(Sli.E2E),
        ),
        Panel(
            "Goodput tokens",
            (Query(tokens, legend("model", "version")),),
            "short",
            about="Output tokens a second of requests that met every target.",
        ),
        Panel(
            "Tokens",
            (
                Query(
                    rate_by("tidegate_tokens_total", MODEL, "model", "version", "direction"),
                    legend("model", "version", "direction"),
                ),
            ),
        ),
    )


def _page_factors(slos: list[Slo]) -> list[tuple[str, tuple[float, ...]]]:
    """Return the long windows of pages, and the burn rates that each needs, one for each length of an SLO window."""
    lengths = sorted({slo.window for slo in slos})
    return [
        (format_duration(pair.long), tuple(round(pair.factor(length), 2) for length in lengths))
        for pair in pairs_of(Severity.PAGE)
    ]


def _share(part: str, whole: str) -> str:
    """Return the share of a part, 0 where there is a whole and no part."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"
