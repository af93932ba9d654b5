"""What is counted, and how it is told."""

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families

from gateway.backends.exposed import EngineMetrics
from gateway.config.table import BackendSpec, ModelSpec, PoolSpec, RouteTable, VersionSpec
from gateway.control.alerts import Alerter
from gateway.exchange import AttemptEnd, Exchange, Outcome, Verdict
from gateway.policy.admission.quota import Exceeded, Quota, QuotaLimits
from gateway.policy.canary.rollout import Phase
from gateway.policy.routing.ejection import Cause
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.routing.waking import FROM_ZERO
from gateway.policy.slo import buckets
from gateway.policy.slo.ledger import SloLedger
from gateway.telemetry.admission_exposition import AdmissionCollector, Queued
from gateway.telemetry.capacity_exposition import CapacityCollector, CapacityRow
from gateway.telemetry.discovery_exposition import DiscoveryCollector, DiscoveryRow
from gateway.telemetry.exposition import GatewayCollector, Gauges
from gateway.telemetry.families import Collector, rendered
from gateway.telemetry.fleet_exposition import FleetCollector, FleetRow
from gateway.telemetry.histogram import Histogram
from gateway.telemetry.metrics import MOST_ATTEMPTS, Metrics
from gateway.telemetry.rollout_exposition import Delivered, RolloutCollector, RolloutRow
from gateway.telemetry.routing_exposition import RoutingCollector
from gateway.telemetry.slo_exposition import SloCollector
from gateway.telemetry.slo_recorder import SloRecorder, follow
from gateway.telemetry.tenant_exposition import CostsByPool, TenantCollector
from gateway.telemetry.tenant_usage import TenantUsage
from gateway.telemetry.waking_exposition import WakingCollector
from gateway.wire.slices import Work, finish
from tests.attempts import attempted
from tests.backends.made import live_backend

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
BACKEND = live_backend(BackendSpec("gpu", "http://e:1", "e", 1))
BACKEND.engine.take(EngineMetrics(running=1.0, waiting=0.0, kv_usage=0.5), (), 0.0)


def exchange(outcome: Outcome = Outcome.OK, *, stream: bool = True, model: str = "m") -> Exchange:
    made = Exchange("r-1", "/v1/chat/completions", 10.0)
    made.model, made.version, made.pool = model, "v1", "gpu"
    made.outcome, made.stream = outcome, stream
    made.first_content, made.last_content, made.ended = 10.3, 11.3, 11.4
    made.backend_seconds = 1.399
    made.content_events, made.output_tokens, made.prompt_tokens = 11, 21, 7
    made.itl_bounds = buckets.ITL
    made.itl = [0] * (len(buckets.ITL) + 1)
    made.itl[4], made.itl_sum = 10, 1.0
    return made


def expose(metrics: Metrics, *others: Collector) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = Gauges(
        backends=[BACKEND],
        now=0.0,
        in_flight=1,
        connections=2,
        tasks=10,
        routes_loaded=True,
        reloads=3,
        reload_failures=4,
        loop_lag=0.5,
        access_log_dropped=6,
        spans_dropped=5,
        metric_exports_failed=2,
        state_saved_at=7.0,
        state_failures=8,
        notifications={"sent": 9},
        handshakes={("data", "done"): 7},
    )

    def gauges() -> Work[Gauges]:
        yield
        return found

    collectors = (GatewayCollector(metrics, gauges), *others)
    assert list(parse_open_metrics(f"{told(collectors, open_metrics=True)}# EOF\n"))
    families = text_string_to_metric_families(told(collectors, open_metrics=False))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def told(collectors: Sequence[Collector], *, open_metrics: bool) -> str:
    return b"".join(finish(rendered(collectors, open_metrics=open_metrics))).decode()


def value(samples: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float:
    return sum(
        number for (found, pairs), number in samples.items() if found == name and labels.items() <= dict(pairs).items()
    )


def test_a_stream_counts_everywhere_once() -> None:
    metrics = Metrics()
    metrics.on_attempt_ended(exchange(), BACKEND, AttemptEnd.OK)
    metrics.on_settled(exchange())
    samples = expose(metrics)
    assert value(samples, "tidegate_requests_total", outcome="ok", model="m", version="v1") == 1
    assert value(samples, "tidegate_attempts_total", outcome="ok", backend="gpu/e:1") == 1
    assert value(samples, "tidegate_tokens_total", direction="output", source="usage") == 21
    assert value(samples, "tidegate_tokens_total", direction="prompt") == 7
    assert value(samples, "tidegate_time_to_first_token_seconds_sum") == pytest.approx(0.3)
    assert value(samples, "tidegate_time_per_output_token_seconds_sum") == pytest.approx(0.05)
    assert value(samples, "tidegate_inter_token_latency_seconds_count") == 10
    assert value(samples, "tidegate_inter_token_latency_seconds_bucket", le="0.075") == 0
    assert value(samples, "tidegate_inter_token_latency_seconds_bucket", le="0.1") == 10
    assert value(samples, "tidegate_request_duration_seconds_sum") == pytest.approx(1.4)
    assert value(samples, "tidegate_overhead_seconds_sum") == pytest.approx(0.001)


@pytest.mark.parametrize("outcome", [each for each in Outcome if each is not Outcome.OK])
def test_what_failed_is_absent_from_latency(outcome: Outcome) -> None:
    metrics = Metrics()
    metrics.on_settled(exchange(outcome))
    samples = expose(metrics)
    assert value(samples, "tidegate_requests_total", outcome=outcome) == 1
    assert value(samples, "tidegate_time_to_first_token_seconds_count") == 0
    assert value(samples, "tidegate_request_duration_seconds_count") == 0


def test_a_document_has_a_duration_and_no_ttft() -> None:
    metrics = Metrics()
    metrics.on_settled(exchange(stream=False))
    samples = expose(metrics)
    assert value(samples, "tidegate_request_duration_seconds_count") == 1
    assert value(samples, "tidegate_time_to_first_token_seconds_count") == 0


def test_without_usage_events_are_counted_and_said_to_be_an_estimate() -> None:
    metrics, made = Metrics(), exchange()
    made.output_tokens = made.prompt_tokens = None
    metrics.on_settled(made)
    assert value(expose(metrics), "tidegate_tokens_total", source="estimated") == 11


def test_retries_are_counted_by_their_reason() -> None:
    metrics = Metrics()
    metrics.on_retried(exchange(), AttemptEnd.CONNECT_FAILED)
    assert value(expose(metrics), "tidegate_retries_total", reason="connect_failed") == 1


def slo_collector() -> SloCollector:
    """What a model with one good answer, and one that met no target, shows."""
    now = [1_700_000_000.0]
    ledger = SloLedger(now[0])
    recorder = SloRecorder(ledger)
    spec = BackendSpec("gpu", "http://e:1", "e", 1)
    model = ModelSpec("m", {"v1": VersionSpec("v1", ("gpu",), "m")}, (("v1", 1.0),))
    table = RouteTable(pools={"gpu": PoolSpec("gpu", (spec,))}, models={"m": model}, names={"m": model})
    follow(ledger, table, now[0])
    made = exchange()
    made.backend, made.attempts = BACKEND.id, [attempted(10.0, 11.4)]
    recorder.on_attempt_ended(made, BACKEND, AttemptEnd.OK)
    recorder.on_settled(made)
    now[0] += 0.25
    ledger.advance(now[0])
    now[0] += 86_400.0
    ledger.advance(now[0])
    alerter = Alerter(ledger, lambda: now[0], lambda _: None)
    alerter.evaluate()
    return SloCollector(ledger, alerter.of)


def routing_collector() -> RoutingCollector:
    """What a pool of two shows after some answers."""
    peers = PoolState("gpu", 0.0)
    peers.follow(["gpu/e:1", "gpu/e:2"])
    for health in list(peers.members.values()) * 20:
        lease = health.lease(100)
        health.began(lease, 0.1)
        lease.release()
        health.ended(lease, Verdict.GOOD, 1.0, Random(1), tpot=0.01)
    peers.tick(1.0, {}, Random(1))
    ejections = {("gpu/e:1", "gpu", Cause.BURN): 1}
    return RoutingCollector(lambda: [peers], ejections, lambda: [("m", 2)])


def test_burn_rates_show_what_the_budget_lives_through() -> None:
    samples = expose(Metrics(), slo_collector())
    assert value(samples, "tidegate_sli_events_total", sli="ttft", verdict="good", objective="default") == 1
    assert value(samples, "tidegate_sli_events_total", sli="ttft", verdict="good", prompt_tokens="<4096") == 1
    assert value(samples, "tidegate_backend_sli_events_total", sli="ttft", verdict="good", backend="gpu/e:1") == 1
    assert value(samples, "tidegate_judged_requests_total", verdict="good") == 1
    assert value(samples, "tidegate_sli_events_total", sli="tpot", verdict="bad") == 0
    assert value(samples, "tidegate_goodput_tokens_total", model="m", version="v1") == 21
    assert value(samples, "tidegate_error_budget_remaining_ratio", version="v1", sli="availability") == 1
    assert (
        value(samples, "tidegate_alert_state", model="m", version="", prompt_tokens="", sli="ttft", state="inactive")
        == 4
    )


def admission_collector() -> AdmissionCollector:
    peers = PoolState("gpu", 0.0)
    peers.follow(["gpu/e:1"])
    peers.members["gpu/e:1"].slots.limit_to(7)
    queue = Queued("m", "v1", {"batch": 3}, {("batch", "queue_full"): 2})
    return AdmissionCollector(lambda: [peers], lambda: [queue], lambda: [("m", 0.1), ("new", None)])


def test_queues_slots_and_who_was_turned_away_are_shown() -> None:
    samples = expose(Metrics(), admission_collector())
    assert value(samples, "tidegate_queue_depth", model="m", version="v1") == 3
    assert value(samples, "tidegate_shed_total", reason="queue_full") == 2
    assert value(samples, "tidegate_backend_limit", backend="gpu/e:1") == 7
    assert value(samples, "tidegate_prompt_estimate_error_ratio", model="new") == 0


def capacity_collector() -> CapacityCollector:
    rows = [CapacityRow("gpu", 5, 3, 0, 12.5, 1_700_000_000.0, (("mase", 0.8),)), CapacityRow("cpu")]
    return CapacityCollector(lambda: rows, {("gpu", "burn"): 2})


def test_a_want_that_is_not_known_is_no_number() -> None:
    found = expose(Metrics(), capacity_collector())
    wanted = {name: value for (name, pairs), value in found.items() if dict(pairs).get("pool") == "cpu"}
    assert wanted == {"tidegate_capacity_known": 0.0}
    assert found["tidegate_capacity_wanted_replicas", (("pool", "gpu"),)] == 5.0
    assert found["tidegate_capacity_changes_total", (("pool", "gpu"), ("rule", "burn"))] == 2.0


def waking_collector() -> WakingCollector:
    pool, held = PoolState("gpu", 0.0), Histogram((1.0,))
    pool.follow([], scale_from_zero=FROM_ZERO)
    assert pool.waking is not None
    pool.waking.hold()
    held.observe(30.0)
    pools = [pool, PoolState("cpu", 0.0)]
    return WakingCollector(lambda: pools, lambda _: 1, {("gpu", "woken"): 1}, {"m": held})


def test_cold_starts_are_shown_for_pools_that_scale_from_zero() -> None:
    samples = expose(Metrics(), waking_collector())
    assert value(samples, "tidegate_held_requests", pool="gpu") == 1
    assert value(samples, "tidegate_wake_wanted", pool="gpu") == 1
    assert value(samples, "tidegate_wake_calls_total", pool="gpu", result="woken") == 1
    assert value(samples, "tidegate_cold_start_seconds_sum", model="m") == 30
    assert not any(dict(pairs).get("pool") == "cpu" for _, pairs in samples)


def tenant_collector(paid: Exchange) -> TenantCollector:
    """What one tenant without a name used, and another with limits has left."""
    usage, quota = TenantUsage(), Quota(QuotaLimits(10, 1000, 4), 0.0)
    usage.on_settled(paid)
    usage.on_attempt_ended(paid, BACKEND, AttemptEnd.OK)
    assert quota.reserve(250, 0.0) is None

    def costs() -> Work[CostsByPool]:
        yield
        return CostsByPool({"gpu": 0.5}, {"gpu": 1.5}, {("m", "v2", "gpu"): 0.25})

    return TenantCollector(usage, lambda: [("acme", quota)], costs, lambda: 0.0)


def test_tenants_and_what_engines_cost_are_shown() -> None:
    samples = expose(Metrics(), tenant_collector(exchange()))
    assert value(samples, "tidegate_tenant_requests_total", tenant="other", model="m", result="ok") == 1
    assert value(samples, "tidegate_tenant_tokens_total", tenant="other", direction="output") == 21
    left = {limit: value(samples, "tidegate_tenant_quota_left_ratio", tenant="acme", limit=limit) for limit in Exceeded}
    assert left == {Exceeded.REQUESTS: 0.9, Exceeded.TOKENS: 0.75, Exceeded.CONCURRENT: 0.75}
    assert value(samples, "tidegate_cost_engines_total", pool="gpu") == 2.0
    assert value(samples, "tidegate_cost_idle_total", pool="gpu") == 1.5


def discovery_collector() -> DiscoveryCollector:
    return DiscoveryCollector(lambda: [DiscoveryRow("dns vllm.svc:8000", ("p",), 2, 1, 3.5, "", 4)])


def fleet_collector() -> FleetCollector:
    return FleetCollector(lambda: FleetRow(3, leads=True, saved=0.4, read=0.5, took=0.01, unsaved=7, recovering=False))


def test_a_fleet_is_shown_without_what_is_not_known_yet() -> None:
    samples = expose(Metrics(), fleet_collector())
    assert value(samples, "tidegate_fleet_members") == 3
    assert value(samples, "tidegate_fleet_leader") == 1
    assert value(samples, "tidegate_fleet_unsaved_slots") == 7
    new = FleetRow(None, leads=False, saved=None, read=None, took=None, unsaved=0, recovering=True)
    unknown = expose(Metrics(), FleetCollector(lambda: new))
    assert {name for name, _ in unknown if "fleet" in name} == {
        "tidegate_fleet_leader",
        "tidegate_fleet_recovering",
        "tidegate_fleet_unsaved_slots",
    }
    assert not any("fleet" in name for name, _ in expose(Metrics(), FleetCollector(lambda: None)))


def rollout_collector() -> RolloutCollector:
    row = RolloutRow("m", Phase.STEP, 2, {"v1": 0.95, "v2": 0.05}, {"ttft": 1e6, "availability": 0.0})
    duration = Histogram((1.0, 5.0))
    duration.observe(3.0)
    delivered = Delivered(
        {("m", "promoted"): 1},
        {("m", "v2", "ok"): 4},
        {("m", "live"): duration},
        {("m", "v2", "registered"): 0.0},
        {("m", "image_pull", "failed"): duration},
    )
    return RolloutCollector(lambda: [row], lambda: delivered)


def test_rollouts_and_deployments_are_shown() -> None:
    samples = expose(Metrics(), rollout_collector())
    assert value(samples, "tidegate_canary_phase", model="m", phase="step") == 1
    assert value(samples, "tidegate_canary_phase", model="m", phase="paused") == 0
    assert value(samples, "tidegate_canary_step", model="m") == 2
    assert value(samples, "tidegate_canary_weight_ratio", version="v2") == 0.05
    assert value(samples, "tidegate_canary_e_value", sli="ttft") == 1e9, "never infinite"
    assert value(samples, "tidegate_rollouts_total", result="promoted") == 1
    assert value(samples, "tidegate_mirrored_requests_total", outcome="ok") == 4
    assert value(samples, "tidegate_deployment_duration_seconds_sum", result="live") == 3.0


def test_every_metric_has_its_row_and_every_row_its_metric() -> None:
    table = [line.split("|") for line in DOCS.read_text().splitlines() if line.startswith("| `tidegate_")]
    rows = {cells[1].strip(" `"): cells[3] for cells in table}
    metrics = Metrics()
    metrics.on_settled(exchange())
    paid = exchange()
    paid.attempts = [attempted()]
    paid.attempts[-1].cost = 0.5
    metrics.on_attempt_ended(paid, BACKEND, AttemptEnd.OK)
    metrics.on_retried(exchange(), AttemptEnd.STALLED)
    exported: dict[str, set[str]] = {}
    rest = (routing_collector(), admission_collector(), rollout_collector(), discovery_collector(), fleet_collector())
    more = (slo_collector(), capacity_collector(), waking_collector(), tenant_collector(paid))
    for name, pairs in expose(metrics, *more, *rest):
        family = re.sub(r"_(bucket|sum|count|created)$", "", name)
        if name.startswith("tidegate_"):
            exported.setdefault(family, set()).update(key for key, _ in pairs if key != "le")
    assert {name: set(filter(None, re.split(r"[, ]+", labels))) for name, labels in rows.items()} == exported


@given(st.lists(st.floats(0, 1000), max_size=60))
def test_a_histogram_equals_counting_one_by_one(seconds: list[float]) -> None:
    histogram = Histogram(buckets.TTFT)
    for each in seconds:
        histogram.observe(each)
    for bound, count in histogram.cumulative():
        assert count == sum(each <= float(bound) for each in seconds)
    twice = Histogram(buckets.TTFT)
    twice.merge(histogram.counts, histogram.total, histogram.bounds)
    twice.merge(histogram.counts, histogram.total, histogram.bounds)
    assert twice.counts == [2 * count for count in histogram.counts]
    assert histogram.total == pytest.approx(sum(seconds))


def test_attempts_at_backends_that_are_gone_are_forgotten_once_there_are_many() -> None:
    metrics = Metrics()
    for number in range(MOST_ATTEMPTS):
        metrics.attempts[f"p/{number}", "p", "v1", AttemptEnd.OK] = 1
    metrics.forget_gone({"p/1"})
    assert len(metrics.attempts) == MOST_ATTEMPTS
    metrics.attempts["p/1", "p", "v1", AttemptEnd.STALLED] = 1
    metrics.forget_gone({"p/1"})
    assert [key[0] for key in metrics.attempts] == ["p/1", "p/1"]
