"""What `tidegate explain` says agrees with itself: no prediction decides for one that gets nothing."""

from pathlib import Path
from random import Random
from time import monotonic

from gateway.admin.decisions import candidate
from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.config.load import load_routes
from gateway.lateness import Lateness
from gateway.policy.admission.classes import CLASSES
from gateway.policy.routing.ejection import EjectionState, State
from gateway.policy.routing.readiness import Readiness
from gateway.policy.routing.readiness import State as Ready
from gateway.proxy.explain import Explained, explain
from gateway.proxy.live import LiveModel, live_table
from gateway.wire.outbox import Outbox

ROUTES = """\
pools: {gpu: {backends: [http://a, http://b]}, cpu: {backends: [http://c]}}
models: {m: {versions: {v: {pools: [gpu, cpu]}}, rules: [{use: [gpu, cpu]}]}}
"""


def made(folder: Path, text: str = ROUTES) -> tuple[LiveModel, list[Backend]]:
    path = folder / "routes.yaml"
    path.write_text(text)
    table = load_routes(path, {})
    registry = Registry(Outbox(), monotonic, Lateness())
    registry.reconcile(table)
    live = live_table(table, registry, 0)
    return live.model("m"), sorted(registry, key=lambda each: each.id)


def explained(model: LiveModel, name: str = "standard", now: float = 1.0) -> Explained:
    (found,) = explain(model, 100, CLASSES[name], now=now, rng=Random(1))
    return found


def test_one_that_is_ejected_or_not_ready_has_no_score(tmp_path: Path) -> None:
    model, (cpu, sick, down) = made(tmp_path)
    sick.health.outlier.ejection = EjectionState(State.EJECTED, reason="it is slow")
    down.learn(Readiness(Ready.NOT_READY, "connection refused"))
    rows = {each.id: candidate(each) for each in explained(model).considered}
    assert rows[cpu.id].score is not None
    for each in (sick, down):
        assert rows[each.id].refused
        assert rows[each.id].score is rows[each.id].predicted_ttft_seconds is None


def test_the_only_ready_backend_is_said_to_be_that_of_its_pool(tmp_path: Path) -> None:
    model, (_, _, down) = made(tmp_path)
    down.learn(Readiness(Ready.NOT_READY, "connection refused"))
    why = explained(model).why
    assert "the only backend of pool gpu that takes requests" in why
    assert "not measured yet" in why


def test_a_drained_backend_is_said_to_be_drained(tmp_path: Path) -> None:
    model, (cpu, sick, gone) = made(tmp_path)
    gone.availability.list_models({"m": None})
    gone.availability.drain(drained=True)
    found = explained(model)
    assert {each.id: each.refused for each in found.considered} == {cpu.id: "", sick.id: "", gone.id: "drained"}
    assert "ready" not in found.why


def test_backends_whose_probes_time_out_get_requests_all_the_same(tmp_path: Path) -> None:
    model, engines = made(tmp_path)
    for engine in engines:
        engine.learn(Readiness(Ready.NOT_READY, "no answer to a probe in time", silent=True))
    found = explained(model)
    assert found.winner
    assert found.why.startswith("its probes time out; requests are still sent; ")
    for engine in engines:
        engine.learn(Readiness(Ready.NOT_READY, "connection refused"))
    assert explained(model).why.endswith("requests get 503")


def test_one_that_works_although_its_probes_time_out_is_asked_where_no_other_has_a_slot(tmp_path: Path) -> None:
    model, (cpu, first, second) = made(tmp_path)
    first.learn(Readiness(Ready.NOT_READY, "no answer to a probe in time", silent=True))
    first.health.activity.worked_at = monotonic()
    found = explained(model)
    assert found.winner != first.id
    rows = {each.id: each.refused for each in found.considered}
    assert "it is at work, and asked while no other has a slot" in rows[first.id]
    for other in (cpu, second):
        other.health.slots.limit = 0
    found = explained(model)
    assert found.winner == first.id
    assert found.why.startswith("its probes time out; requests are still sent; ")


def test_a_version_that_is_not_ready_leaves_its_requests_to_another(tmp_path: Path) -> None:
    text = """\
pools: {gpu: {backends: [http://a]}, cpu: {backends: [http://c]}}
models: {m: {versions: {v1: {pools: [gpu]}, v2: {pools: [cpu]}}, split: {v1: 50, v2: 50}}}
"""
    model, (cpu, gpu) = made(tmp_path, text)
    gpu.learn(Readiness(Ready.NOT_READY, "connection refused"))
    first, second = explain(model, 100, CLASSES["standard"], now=1.0, rng=Random(1))
    assert first.winner == second.winner == cpu.id
    assert first.why.startswith("v1 has no ready backend: its requests go to v2: ")


def test_a_wait_is_not_explained_by_a_slot_that_is_free(tmp_path: Path) -> None:
    model, engines = made(tmp_path)
    for engine in engines:
        engine.health.slots.limit = 2
        engine.health.lease(10)
        engine.health.refused(0.0, None, busy=True)
    why = explained(model, now=0.1).why
    assert why.startswith("no free slot is for it: see `refused`: a request of the class standard would wait up to ")
    assert "(a slot is free)" not in why
    for engine in engines:
        engine.health.slots.limit = 1
    why = explained(model).why
    assert why.startswith("no slot is free: a request of the class standard would wait up to ")
    assert "behind 0 others; that bounds the chance of a slot to" in why
    (line,) = model.memory.lines.values()
    line.held_below = 10
    assert explained(model, "batch").why.startswith("its class is held back while a higher one misses its objective: ")
