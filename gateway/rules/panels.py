"""The panels of the dashboard: their queries, units and legends. Each metric is a row of docs/metrics.md."""

from dataclasses import dataclass

from gateway.exchange import UNCOUNTED, Outcome
from gateway.policy.slo.classify import request_verdict
from gateway.rules.slo import Slo

_RATE = "$__rate_interval"
_MODEL = 'model=~"$model"'
_POOL = 'pool=~"$pool"'
_WHOLE = f'{_MODEL}, version="", prompt_tokens=""'
_NOT_COUNTED = "|".join(each for each in Outcome if request_verdict(each) is UNCOUNTED)
_FAILED = f'outcome!~"ok|{_NOT_COUNTED}"'
_COUNTED = f'outcome!~"{_NOT_COUNTED}"'


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel and the legend of its series."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel: `kind` is Grafana's name of its type, `width` of 24 columns, `unit` one of Grafana's."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    about: str = ""


def rows(slos: list[Slo]) -> dict[str, tuple[Panel, ...]]:
    """Return the panels of each row, by its title."""
    return {
        "Error budgets and alerts": _budgets(slos),
        "What users experience": _users(slos),
        "Admission": _admission(),
        "Backends": _backends(),
        "Canary": _canary(),
        "The gateway itself": _gateway(),
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
                    _by("model", "objective", "sli"),
                ),
            ),
            "percentunit",
            "stat",
            about=f"Of the whole SLO window; absent below one day of history. Targets:\n{targets}",
        ),
        Panel(
            "Burn rate, 1 h and 6 h",
            tuple(Query(_burn("model", "$model", window), f"{names} {window}") for window in ("1h", "6h")),
            about="1 spends the budget exactly over the SLO window. Pages need 13.44 over 1 h or 5.6 over 6 h (28 d).",
        ),
        Panel(
            "Firing alerts",
            (Query(f'{firing} (tidegate_alert_state{{{_MODEL}, state="firing"}} == 1)', ""),),
            kind="table",
            about="The gateway's own alerts. No row: none is firing.",
        ),
        Panel(
            "Burn rate by version, 1 h",
            (
                Query(
                    _burn("version", "($model)/.*", "1h"),
                    names,
                ),
            ),
        ),
        Panel(
            "Burn rate by backend, 5 m",
            (
                Query(
                    _burn("backend", "($pool)/.*", "5m"),
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
    late = " ".join(
        f"{slo.model}: {slo.target_words}." for slo in slos if slo.sli != "availability" and not slo.part.labels
    )
    requests = f"sum by (model, version, outcome) (rate(tidegate_requests_total{{{_MODEL}}}[{_RATE}]))"
    good = _rate("tidegate_judged_requests_total", f'{_MODEL}, verdict="good"', "model", "objective")
    judged = _rate("tidegate_judged_requests_total", _MODEL, "model", "objective")
    tokens = _rate("tidegate_goodput_tokens_total", _MODEL, "model", "version")
    failed = _rate("tidegate_requests_total", f"{_MODEL}, {_FAILED}", "model", "version")
    counted = _rate("tidegate_requests_total", f"{_MODEL}, {_COUNTED}", "model", "version")
    attempts = _rate("tidegate_backend_sli_events_total", f'{_POOL}, sli="%s", verdict="bad"', "backend")
    all_attempts = _rate("tidegate_backend_sli_events_total", f'{_POOL}, sli="%s"', "backend")
    return (
        Panel("Requests by outcome", (Query(requests, _by("model", "version", "outcome")),), "reqps"),
        Panel(
            "Availability",
            (Query(f"1 - ({failed} or 0 * {counted}) / ({counted} > 0)", _by("model", "version")),),
            "percentunit",
        ),
        Panel(
            "Goodput: requests that met every target",
            (Query(f"({good} or 0 * {judged}) / ({judged} > 0)", _by("model", "objective")),),
            "percentunit",
        ),
        Panel("TTFT by version", _quantiles("tidegate_time_to_first_token_seconds"), "s", about=late),
        Panel("ITL by version", _quantiles("tidegate_inter_token_latency_seconds"), "s", about=late),
        Panel("TPOT by version", _quantiles("tidegate_time_per_output_token_seconds"), "s", about=late),
        *(
            Panel(
                f"Late {name} by backend",
                (
                    Query(
                        f"({attempts % sli} or 0 * {all_attempts % sli}) / ({all_attempts % sli} > 0)", _by("backend")
                    ),
                ),
                "percentunit",
                about="Share of attempts that missed the threshold of their objective.",
            )
            for name, sli in (("TTFT", "ttft"), ("ITL", "itl"), ("TPOT", "tpot"))
        ),
        Panel(
            "Duration",
            _quantiles("tidegate_request_duration_seconds"),
            "s",
            about="Of complete answers, to the last byte.",
        ),
        Panel(
            "Goodput tokens",
            (Query(tokens, _by("model", "version")),),
            "short",
            about="Output tokens a second of requests that met every target.",
        ),
        Panel(
            "Tokens",
            (
                Query(
                    _rate("tidegate_tokens_total", _MODEL, "model", "version", "direction"),
                    _by("model", "version", "direction"),
                ),
            ),
        ),
    )


def _admission() -> tuple[Panel, ...]:
    queue = f"histogram_quantile(%s, sum by (class, le) (rate(tidegate_queue_seconds_bucket[{_RATE}])))"
    refused = _rate("tidegate_shed_total", _MODEL, "class", "reason")
    return (
        Panel(
            "Queue depth by class",
            (
                Query(f"sum by (model, class) (tidegate_queue_depth{{{_MODEL}}})", _by("model", "class")),
                Query(
                    f"max by (model, class) (tidegate_queue_held{{{_MODEL}}} == 1)",
                    "{{model}} {{class}} is held back for a higher class",
                ),
            ),
        ),
        Panel(
            "Time in the queue by class",
            tuple(Query(queue % share, f"{{{{class}}}} p{name}") for share, name in (("0.5", "50"), ("0.99", "99"))),
            "s",
        ),
        Panel("Refusals by class and reason", (Query(refused, _by("class", "reason")),), "reqps"),
        Panel(
            "In flight and limit by backend",
            (
                Query(f"sum by (backend) (tidegate_backend_in_flight{{{_POOL}}})", "{{backend}} in flight"),
                Query(f"max by (backend) (tidegate_backend_limit{{{_POOL}}})", "{{backend}} limit"),
            ),
        ),
        Panel(
            "Waiting in the engine",
            (Query(f"max by (backend) (tidegate_engine_waiting{{{_POOL}}})", _by("backend")),),
        ),
        Panel(
            "KV cache in use",
            (Query(f"max by (backend) (tidegate_engine_kv_usage_ratio{{{_POOL}}})", _by("backend")),),
            "percentunit",
        ),
    )


def _backends() -> tuple[Panel, ...]:
    ends = "ok|client_error|client_gone|client_timeout|too_large"
    attempts = f'tidegate_attempts_total{{{_POOL}, outcome!~"{ends}"}}'
    return (
        Panel(
            "Backends by state",
            (Query(f"sum by (pool, state) (tidegate_backend_state{{{_POOL}}})", _by("pool", "state")),),
        ),
        Panel(
            "Out of service",
            (
                Query(
                    f'max by (backend, state) (tidegate_backend_ejection{{{_POOL}, state!="in_service"}} == 1)',
                    _by("backend", "state"),
                ),
                Query(
                    f"max by (pool) (tidegate_pool_panic{{{_POOL}}} == 1)", "panic in {{pool}}: ejections are ignored"
                ),
            ),
        ),
        Panel(
            "Ejections",
            (
                Query(
                    f"sum by (backend, reason) (increase(tidegate_ejections_total{{{_POOL}}}[{_RATE}]))",
                    _by("backend", "reason"),
                ),
            ),
        ),
        Panel("Weight", (Query(f"min by (backend) (tidegate_backend_weight{{{_POOL}}})", _by("backend")),)),
        Panel(
            "Failed attempts",
            (Query(f"sum by (backend, outcome) (rate({attempts}[{_RATE}]))", _by("backend", "outcome")),),
            "reqps",
        ),
        Panel(
            "TTFT over that of its peers at the same work",
            (Query(f"max by (backend) (tidegate_backend_residual_ratio{{{_POOL}}})", _by("backend")),),
            about="Well above 1: the backend is sick, not busy.",
        ),
    )


def _canary() -> tuple[Panel, ...]:
    return (
        Panel(
            "Share of requests by version",
            (Query(f"max by (model, version) (tidegate_canary_weight_ratio{{{_MODEL}}})", _by("model", "version")),),
            "percentunit",
        ),
        Panel(
            "Phase",
            (Query(f"max by (model, phase) (tidegate_canary_phase{{{_MODEL}}} == 1)", _by("model", "phase")),),
        ),
        Panel(
            "Evidence against the candidate",
            (Query(f"max by (model, sli) (tidegate_canary_e_value{{{_MODEL}}})", _by("model", "sli")),),
            about="All SLIs together roll back at 100.",
        ),
    )


def _gateway() -> tuple[Panel, ...]:
    overhead = f"histogram_quantile(%s, sum by (le) (rate(tidegate_overhead_seconds_bucket[{_RATE}])))"
    return (
        Panel("Event loop lag", (Query("max(tidegate_loop_lag_seconds)", "longest delay in 10 s"),), "s"),
        Panel(
            "Overhead",
            tuple(Query(overhead % share, f"p{name}") for share, name in (("0.5", "50"), ("0.99", "99"))),
            "s",
        ),
        Panel(
            "Routes refused, state not saved, log lines dropped",
            (
                Query("sum(1 - tidegate_routes_loaded)", "processes with refused routes"),
                Query(f"sum(increase(tidegate_state_save_failures_total[{_RATE}]))", "state not saved"),
                Query(f"sum(increase(tidegate_access_log_dropped_total[{_RATE}]))", "access log lines dropped"),
            ),
        ),
    )


def _quantiles(histogram: str) -> tuple[Query, ...]:
    buckets = f"sum by (model, version, le) (rate({histogram}_bucket{{{_MODEL}}}[{_RATE}]))"
    return tuple(
        Query(f"histogram_quantile({share}, {buckets})", f"{{{{model}}}} {{{{version}}}} p{name}")
        for share, name in (("0.5", "50"), ("0.95", "95"), ("0.99", "99"))
    )


def _rate(counter: str, labels: str, *by: str) -> str:
    return f"sum by ({', '.join(by)}) (rate({counter}{{{labels}}}[{_RATE}]))"


def _by(*labels: str) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in labels)


def _burn(subject: str, names: str, window: str) -> str:
    labels = f'subject="{subject}", name=~"{names}", prompt_tokens="", window="{window}"'
    return f"max by (name, objective, sli) (tidegate_burn_rate{{{labels}}})"
