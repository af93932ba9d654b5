"""Objectives as the data plane gets them, and targets that no alert could be held against."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.load import load, load_routes
from gateway.config.problems import RoutesError
from gateway.config.table import RouteTable
from gateway.policy.slo.alerts import PAIRS
from gateway.policy.slo.buckets import ITL, TTFT, bounds_for
from gateway.policy.slo.objective import DAY, DEFAULT, Objective, Sli, Target, Throughput

ROUTES = """
objectives:
  fast:
    window: 30d
    availability: {{target: {target}}}
    ttft: {{target: 99, under: 500ms, by_prompt_tokens: {{4096: 2s, 100: 600ms}}}}
    itl: {{target: 99.5, under: 35ms}}
models:
  m: {{backends: [http://a], objective: fast}}
  n: {{backends: [http://b]}}
"""


def objective_of(path: Path, target: str = "99.95") -> Objective:
    path.write_text(ROUTES.format(target=target))
    table = load_routes(path, {})
    assert table.models["n"].objective is DEFAULT
    return table.models["m"].objective


def test_an_objective_is_read_as_it_is_written(tmp_path: Path) -> None:
    objective = objective_of(tmp_path / "routes.yaml")
    assert objective.window == 30 * DAY
    assert objective.targets == {
        Sli.AVAILABILITY: Target(0.9995),
        Sli.TTFT: Target(0.99, 0.5, ((100, 0.6), (4096, 2.0))),
        Sli.ITL: Target(0.995, 0.035),
    }
    ttft = objective.targets[Sli.TTFT]
    assert [ttft.threshold(tokens) for tokens in (1, 99, 100, 4095, 4096, 10**6)] == [0.5, 0.5, 0.6, 0.6, 2.0, 2.0]


def test_every_threshold_is_a_bound_of_its_histogram(tmp_path: Path) -> None:
    bounds = bounds_for([objective_of(tmp_path / "routes.yaml")])
    assert {0.5, 0.6, 2.0} <= set(bounds.ttft)
    assert set(TTFT) < set(bounds.ttft)
    assert set(bounds.itl) == {*ITL, 0.035}
    assert list(bounds.itl) == sorted(bounds.itl)


@given(st.decimals(min_value="80", max_value="99.99", places=2))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
def test_a_target_is_refused_exactly_when_some_alert_could_never_fire(tmp_path: Path, target: object) -> None:
    highest = 1 / (1 - float(str(target)) / 100)
    hardest = max(pair.factor(30 * DAY) for pair in PAIRS)
    if highest > hardest + 0.02:
        assert objective_of(tmp_path / "routes.yaml", str(target)).targets[Sli.AVAILABILITY].highest_burn > hardest
    elif highest <= hardest:
        with pytest.raises(RoutesError, match="could never fire"):
            objective_of(tmp_path / "routes.yaml", str(target))


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("objectives: {a: {}}\nmodels: {m: {backends: [http://a]}}", "no model uses this objective"),
        (
            "objectives: {a: {ttft: {target: 99, under: 2s, by_prompt_tokens: {100: 1s}}}}\n"
            "models: {m: {backends: [http://a], objective: a}}",
            "longer prompts would have to be faster",
        ),
        (
            "objectives: {a: {availability: {target: 99.99}}}\nmodels: {m: {backends: [http://a], objective: a}}",
            "at 99.99 % an outage of 4.84 s pages",
        ),
        (
            "objectives: {a: {ttft: {target: 99, under: 40s}}}\nmodels: {m: {backends: [http://a], objective: a}}",
            "`first_token` gives up after 30s, before this threshold is reached",
        ),
        (
            "objectives: {a: {}, b: {}}\nmodels: {m: {backends: [http://a], objective: {default: a, interactive: b}}}\n"
            f"tenants: {{t: {{key_sha256: '{'0' * 64}'}}}}",
            "no tenant may send requests of this class",
        ),
    ],
)
def test_what_is_odd_is_said(text: str, warning: str, tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(text)
    (said,) = load(path, {}).warnings
    assert warning in said.message


def table_of(text: str, path: Path) -> RouteTable:
    path.write_text(text)
    return load_routes(path, {})


def test_each_class_has_the_objective_that_it_is_given_and_all_others_the_default_one(tmp_path: Path) -> None:
    objectives = "objectives: {fast: {ttft: {target: 99, under: 35ms}}, slow: {itl: {target: 99, under: 7s}}}\n"
    model = "models: {m: {backends: [http://a], objective: {default: fast, batch: slow, standard: fast}}}"
    table = table_of(objectives + model, tmp_path / "routes.yaml")
    spec = table.models["m"]
    assert spec.objective.name == "fast"
    assert {name: each.name for name, each in spec.objective_by_class.items()} == {"batch": "slow", "standard": "fast"}
    assert [each.name for each in spec.objectives] == ["fast", "slow"]
    bounds = bounds_for(spec.objectives)
    assert 0.035 in bounds.ttft
    assert 7.0 in bounds.itl, "of every objective, whichever class a request has"


def test_an_objective_called_default_is_that_of_models_that_name_none(tmp_path: Path) -> None:
    text = "objectives: {default: {e2e: {target: 95, under: 60s}}}\nmodels: {m: {backends: [http://a]}}"
    table = table_of(text, tmp_path / "routes.yaml")
    assert set(table.models["m"].objective.targets) == {Sli.AVAILABILITY, Sli.E2E}
    assert load(tmp_path / "routes.yaml", {}).warnings == ()


def test_an_objective_defined_twice_cites_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("objectives: {fast: {}}\nmodels: {m: {backends: [http://a], objective: fast}}")
    (tmp_path / "b.yaml").write_text("objectives: {fast: {}}")
    with pytest.raises(RoutesError, match=r"b\.yaml:1:14.*already defined at .*a\.yaml:1"):
        load_routes(tmp_path, {})


@pytest.mark.parametrize(("written", "meant"), [("0.999", "99.9"), ("0.95", "95")])
@pytest.mark.parametrize("sli", ["availability", "ttft", "deployment"])
def test_a_share_where_per_cent_are_meant_is_refused_with_what_was_meant(
    tmp_path: Path, written: str, meant: str, sli: str
) -> None:
    under = "" if sli == "availability" else ", under: 1s"
    path = tmp_path / "routes.yaml"
    path.write_text(
        f"objectives: {{o: {{{sli}: {{target: {written}{under}}}}}}}\n"
        "models: {m: {objective: o, backends: ['http://e:1']}}\n"
    )
    with pytest.raises(RoutesError, match=f"did you mean {meant}\\?"):
        load_routes(path)


MORE = """
objectives:
  fast:
    throughput: {throughput}
    deployment_stages: {{image_pull: {{target: {target}, under: 5m}}}}
models:
  m: {{backends: [http://a], objective: fast}}
"""


def test_throughput_and_stages_of_deployments_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(MORE.format(throughput="{target: 95, tokens_per_second: 500}", target=95))
    objective = load_routes(path, {}).models["m"].objective
    assert objective.throughput == Throughput(Target(0.95), tokens=500.0)
    assert objective.stages == (("image_pull", Target(0.95, 300.0)),)


@pytest.mark.parametrize(
    ("throughput", "target", "said"),
    [
        ("{target: 95}", 95, "objectives.fast.throughput: it does not say how much is good"),
        ("{target: 90, requests_per_second: 1}", 95, "objectives.fast.throughput.target: the page on 1h and 5m could"),
        ("{target: 0.95, requests_per_second: 1}", 95, "objectives.fast.throughput.target: a target of 0.95 is 0.95 %"),
        ("{target: 95, tokens_per_second: 0}", 95, "objectives.fast.throughput.tokens_per_second: "),
        (
            "{target: 95, tokens_per_second: 5}",
            0.95,
            "objectives.fast.deployment_stages.image_pull.target: a target of",
        ),
    ],
)
def test_throughput_and_stages_that_say_nothing_are_refused(
    tmp_path: Path, throughput: str, target: float, said: str
) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(MORE.format(throughput=throughput, target=target))
    with pytest.raises(RoutesError) as refused:
        load_routes(path, {})
    assert said in str(refused.value)
