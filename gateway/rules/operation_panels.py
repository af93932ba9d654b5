"""The panels of how the gateway works: admission, backends, rollouts, capacity, and the process itself."""

from gateway.rules.panel import MODEL, POOL, RATE, Panel, Query, legend, rate_by


def admission() -> tuple[Panel, ...]:
    """Return the panels of queues and limits."""
    queue = f"histogram_quantile(%s, sum by (class, le) (rate(tidegate_queue_seconds_bucket[{RATE}])))"
    refused = rate_by("tidegate_shed_total", MODEL, "class", "reason")
    return (
        Panel(
            "Queue depth by class",
            (
                Query(f"sum by (model, class) (tidegate_queue_depth{{{MODEL}}})", legend("model", "class")),
                Query(
                    f"max by (model, class) (tidegate_queue_held{{{MODEL}}} == 1)",
                    "{{model}} {{class}} is held back for a higher class",
                ),
            ),
        ),
        Panel(
            "Time in the queue by class",
            tuple(Query(queue % share, f"{{{{class}}}} p{name}") for share, name in (("0.5", "50"), ("0.99", "99"))),
            "s",
        ),
        Panel("Refusals by class and reason", (Query(refused, legend("class", "reason")),), "reqps"),
        Panel(
            "In flight and limit by backend",
            (
                Query(f"sum by (backend) (tidegate_backend_in_flight{{{POOL}}})", "{{backend}} in flight"),
                Query(f"max by (backend) (tidegate_backend_limit{{{POOL}}})", "{{backend}} limit"),
            ),
        ),
        Panel(
            "Waiting in the engine",
            (Query(f"max by (backend) (tidegate_engine_waiting{{{POOL}}})", legend("backend")),),
        ),
        Panel(
            "KV cache in use",
            (Query(f"max by (backend) (tidegate_engine_kv_usage_ratio{{{POOL}}})", legend("backend")),),
            "percentunit",
        ),
    )


def backends() -> tuple[Panel, ...]:
    """Return the panels of how backends are, and what the gateway does about it."""
    ends = "ok|client_error|client_gone|client_timeout|too_large"
    attempts = f'tidegate_attempts_total{{{POOL}, outcome!~"{ends}"}}'
    return (
        Panel(
            "Backends by state",
            (Query(f"sum by (pool, state) (tidegate_backend_state{{{POOL}}})", legend("pool", "state")),),
        ),
        Panel(
            "Out of service",
            (
                Query(
                    f'max by (backend, state) (tidegate_backend_ejection{{{POOL}, state!="in_service"}} == 1)',
                    legend("backend", "state"),
                ),
                Query(
                    f"max by (pool) (tidegate_pool_panic{{{POOL}}} == 1)", "panic in {{pool}}: ejections are ignored"
                ),
            ),
        ),
        Panel(
            "Ejections",
            (
                Query(
                    f"sum by (backend, reason) (increase(tidegate_ejections_total{{{POOL}}}[{RATE}]))",
                    legend("backend", "reason"),
                ),
            ),
        ),
        Panel("Weight", (Query(f"min by (backend) (tidegate_backend_weight{{{POOL}}})", legend("backend")),)),
        Panel(
            "Failed attempts",
            (Query(f"sum by (backend, outcome) (rate({attempts}[{RATE}]))", legend("backend", "outcome")),),
            "reqps",
        ),
        Panel(
            "TTFT over that of its peers at the same work",
            (Query(f"max by (backend) (tidegate_backend_residual_ratio{{{POOL}}})", legend("backend")),),
            about="Well above 1: the backend is sick, not busy.",
        ),
    )


def canary() -> tuple[Panel, ...]:
    """Return the panels of rollouts and deployments."""
    return (
        Panel(
            "Share of requests by version",
            (Query(f"max by (model, version) (tidegate_canary_weight_ratio{{{MODEL}}})", legend("model", "version")),),
            "percentunit",
        ),
        Panel(
            "Phase",
            (Query(f"max by (model, phase) (tidegate_canary_phase{{{MODEL}}} == 1)", legend("model", "phase")),),
        ),
        Panel(
            "Evidence against the candidate",
            (Query(f"max by (model, sli) (tidegate_canary_e_value{{{MODEL}}})", legend("model", "sli")),),
            about="All SLIs together roll back at 100.",
            lines=(100.0,),
        ),
        Panel(
            "Rollouts that ended, in a day",
            (
                Query(
                    f"sum by (model, result) (increase(tidegate_rollouts_total{{{MODEL}}}[1d]))",
                    legend("model", "result"),
                ),
            ),
        ),
        Panel(
            "Copied requests by outcome",
            (
                Query(
                    rate_by("tidegate_mirrored_requests_total", MODEL, "model", "version", "outcome"),
                    legend("model", "version", "outcome"),
                ),
            ),
            "reqps",
            about="Their answers are discarded.",
        ),
        Panel(
            "Stages of the latest deployment",
            (
                Query(
                    f"max by (model, version, stage) (tidegate_deployment_stage_seconds{{{MODEL}}})",
                    legend("model", "version", "stage"),
                ),
            ),
            "s",
            about="Each from registration on.",
        ),
    )


def capacity() -> tuple[Panel, ...]:
    """Return the panels of replicas wanted, slots in use and costs."""
    wanted = f"max by (pool) (tidegate_capacity_wanted_replicas{{{POOL}}})"
    free = f"max by (backend, pool) (tidegate_backend_limit{{{POOL}}})"
    held = f"sum by (pool) (tidegate_backend_in_flight{{{POOL}}})"
    cost = rate_by("tidegate_cost_total", f"{MODEL}, {POOL}", "model")
    of_tenants = rate_by("tidegate_tenant_cost_total", f"{MODEL}, {POOL}", "tenant")
    goodput = rate_by("tidegate_goodput_tokens_total", MODEL, "model")
    return (
        Panel(
            "Replicas: wanted and there",
            (
                Query(wanted, "{{pool}} wanted"),
                Query(f"max by (pool) (tidegate_capacity_replicas{{{POOL}}})", "{{pool}} there"),
                Query(
                    f"max by (pool) (tidegate_capacity_awaiting_replicas{{{POOL}}} > 0)", "{{pool}} wait for approval"
                ),
            ),
            about="Of pools with a `capacity`. A gap in what is wanted: it is unknown, and nothing is scaled.",
        ),
        Panel(
            "Changes of what is wanted, by rule",
            (
                Query(
                    f"sum by (pool, rule) (increase(tidegate_capacity_changes_total{{{POOL}}}[{RATE}]))",
                    legend("pool", "rule"),
                ),
            ),
        ),
        Panel(
            "Requests that waited for an engine to start",
            tuple(
                Query(
                    f"histogram_quantile({share}, sum by (model, le) "
                    f"(rate(tidegate_cold_start_seconds_bucket{{{MODEL}}}[{RATE}])))",
                    f"{{{{model}}}} p{name}",
                )
                for share, name in (("0.5", "50"), ("0.95", "95"))
            ),
            "s",
        ),
        Panel(
            "Slots in use",
            (Query(f"{held} / (sum by (pool) ({free}) > 0)", legend("pool")),),
            "percentunit",
            about="Requests in progress over what all backends of a pool may have at once.",
        ),
        Panel(
            "Cost of what is wanted, per hour",
            (Query(f"max by (pool) (tidegate_capacity_wanted_cost_per_hour{{{POOL}}})", legend("pool")),),
            about="Where the routes have prices.",
        ),
        Panel(
            "Cost per hour, by tenant",
            (
                Query(f"3600 * {of_tenants}", legend("tenant")),
                Query(f"3600 * {rate_by('tidegate_cost_idle_total', POOL, 'pool')}", "{{pool}} idle"),
            ),
            about="What attempts of tenants cost, and engines that no attempt held.",
        ),
        Panel(
            "Cost of a million goodput tokens",
            (Query(f"1e6 * {cost} / ({goodput} > 0)", legend("model")),),
            about="What attempts cost, over output tokens of requests that met every target.",
        ),
    )


def gateway() -> tuple[Panel, ...]:
    """Return the panels of the gateway's own processes."""
    overhead = f"histogram_quantile(%s, sum by (le) (rate(tidegate_overhead_seconds_bucket[{RATE}])))"
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
                Query(f"sum(increase(tidegate_state_save_failures_total[{RATE}]))", "state not saved"),
                Query(f"sum(increase(tidegate_access_log_dropped_total[{RATE}]))", "access log lines dropped"),
            ),
        ),
    )
