from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from gateway.config.load import LoadedRoutes, load
from gateway.config.table import BackendSpec, ModelSpec, PoolSpec, RouteTable, Timeouts, VersionSpec
from gateway.policy.routing.ejection import USUAL, Thresholds


def loaded(tmp_path: Path, text: str, **environ: str) -> LoadedRoutes:
    path = tmp_path / "routes.yaml"
    path.write_text(text)
    return load(path, environ)


def table(tmp_path: Path, text: str, **environ: str) -> RouteTable:
    return loaded(tmp_path, text, **environ).table


def test_the_smallest_file_that_works(tmp_path: Path) -> None:
    routes = table(tmp_path, "models: {my-model: {backends: [http://localhost:8000]}}")

    model = ModelSpec("my-model", {"default": VersionSpec("default", ("my-model",), "my-model")}, (("default", 1.0),))
    backend = BackendSpec("my-model", "http://localhost:8000", "localhost", 8000)
    assert routes == RouteTable(
        pools={"my-model": PoolSpec("my-model", (backend,))},
        models={"my-model": model},
        names={"my-model": model},
        sources=(str(tmp_path / "routes.yaml"),),
    )


def test_a_file_that_says_everything(tmp_path: Path) -> None:
    routes = table(
        tmp_path,
        """
        pools:
          gpu:
            accelerator: gpu
            cost_per_hour: 2.50
            backends: [http://gpu-0:8000, {url: https://gpu-1/engine/, max_concurrency: 64, api_key: "${KEY}"}]
          cpu: {accelerator: cpu, backends: ["http://[::1]:8001"]}
        models:
          meta/llama:
            aliases: [llama, gpt-4o-mini]
            versions: {v1: {pools: [gpu, cpu], served_model: Meta-Llama}, v2: {pools: [cpu]}, v3: {pools: [cpu]}}
            split: {v1: 95, v2: 4.5, v3: 0}
            timeouts: {connect: 250ms, first_token: 20s, stall: 1m, total: 1h}
        """,
        KEY="sk-1",
    )

    gpu_0 = BackendSpec("gpu", "http://gpu-0:8000", "gpu-0", 8000)
    gpu_1 = BackendSpec("gpu", "https://gpu-1:443/engine", "gpu-1", 443, True, "/engine", 64, False, "sk-1")  # noqa: FBT003
    assert routes.pools["gpu"] == PoolSpec("gpu", (gpu_0, gpu_1), "gpu", 2.5)
    assert routes.pools["cpu"] == PoolSpec("cpu", (BackendSpec("cpu", "http://[::1]:8001", "::1", 8001),), "cpu")
    model = routes.models["meta/llama"]
    assert model.versions == {
        "v1": VersionSpec("v1", ("gpu", "cpu"), "Meta-Llama"),
        "v2": VersionSpec("v2", ("cpu",), "meta/llama"),
        "v3": VersionSpec("v3", ("cpu",), "meta/llama"),
    }
    assert model.split == (("v1", 95.0), ("v2", 4.5))
    assert model.timeouts == Timeouts(0.25, 20.0, 60.0, 3600.0)
    assert routes.names == {"meta/llama": model, "llama": model, "gpt-4o-mini": model}


def test_the_short_form_takes_the_name_that_its_engines_use(tmp_path: Path) -> None:
    routes = table(tmp_path, "models: {m: {backends: [http://a], served_model: Qwen/Qwen3-8B}}")

    assert routes.models["m"].versions["default"].served_model == "Qwen/Qwen3-8B"


def test_one_version_needs_no_split(tmp_path: Path) -> None:
    text = "pools: {gpu: {backends: [http://a]}}\nmodels: {m: {versions: {v7: {pools: [gpu]}}}}"

    assert table(tmp_path, text).models["m"].split == (("v7", 1.0),)


def test_names_are_text_however_yaml_would_read_them(tmp_path: Path) -> None:
    text = (
        "pools: {1: {backends: [http://a]}}\nmodels: {no: {versions: {1.10: {pools: [1]}}}, 08: {backends: [http://b]}}"
    )

    routes = table(tmp_path, text)

    assert set(routes.models) == {"no", "08"}
    assert set(routes.models["no"].versions) == {"1.10"}


def test_numbers_may_come_from_variables(tmp_path: Path) -> None:
    text = 'models: {m: {backends: [{url: "http://a:${PORT}", max_concurrency: "${LIMIT:-8}"}]}}'

    (backend,) = table(tmp_path, text, PORT="81").pools["m"].backends

    assert (backend.port, backend.max_concurrency) == (81, 8)


def test_anchors_and_merge_keys_say_things_once(tmp_path: Path) -> None:
    routes = table(
        tmp_path,
        """
        models:
          a: {backends: &engines [http://a], timeouts: &usual {stall: 3s, total: 4s}}
          b: {backends: *engines, timeouts: {<<: *usual, total: 5s}}
          c: {backends: *engines, timeouts: {<<: [{stall: 1s}, *usual]}}
        """,
    )

    limits = {name: (model.timeouts.stall, model.timeouts.total) for name, model in routes.models.items()}
    assert limits == {"a": (3.0, 4.0), "b": (3.0, 5.0), "c": (1.0, 4.0)}


def test_the_table_cannot_be_changed(tmp_path: Path) -> None:
    routes = table(tmp_path, "models: {m: {backends: [http://a]}}")

    for mapping in (routes.pools, routes.models, routes.names, routes.models["m"].versions):
        with pytest.raises(TypeError):
            mapping["x"] = None  # type: ignore[index]


def test_the_order_of_files_and_entries_makes_no_difference(tmp_path: Path) -> None:
    texts = (
        "pools: {b: {backends: [http://b]}, a: {backends: [http://a]}}",
        "pools: {c: {backends: [http://c]}}\nmodels: {n: {versions: {v1: {pools: [c, a]}}, aliases: [y, x]}}",
        "models: {m: {versions: {v1: {pools: [b, c]}}}, k: {backends: [http://k]}}",
    )
    outcomes = []
    for number, order in enumerate(permutations(texts)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for position, text in enumerate(order):
            (folder / f"{position}.yaml").write_text(text)
        routes = load(folder, {}).table
        outcomes.append((list(routes.pools.items()), list(routes.models.items()), routes.names))

    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert list(outcomes[0][2]) == ["k", "m", "n", "y", "x"]


def test_a_pool_sets_when_its_backends_are_ejected(tmp_path: Path) -> None:
    routes = table(
        tmp_path,
        """
        pools:
          a:
            backends: [http://a]
            outlier_detection:
              consecutive_failures: 3
              min_requests: 20
              base_ejection_time: 10s
              max_ejection_time: "${LONGEST}"
              max_ejection_percent: 0
          b: {backends: [http://b], outlier_detection: {max_ejection_time: 1m}}
          c: {backends: [http://c]}
        models: {m: {versions: {v: {pools: [a, b, c]}}}}
        """,
        LONGEST="1h",
    )
    assert routes.pools["a"].outlier_detection == Thresholds(3, 20, 10.0, 3600.0, 0)
    assert routes.pools["b"].outlier_detection == replace(USUAL, max_ejection_time=60.0)
    assert routes.pools["c"].outlier_detection == USUAL


def test_a_share_of_less_than_one_backend_is_odd(tmp_path: Path) -> None:
    routes = loaded(
        tmp_path,
        "pools:\n"
        "  a: {backends: [http://a, http://b, http://c], outlier_detection: {max_ejection_percent: 33}}\n"
        "  b: {backends: [http://a, http://b, http://c], outlier_detection: {max_ejection_percent: 34}}\n"
        "  c: {backends: [http://a], outlier_detection: {max_ejection_percent: 50}}\n"
        "  d: {backends: [http://a], outlier_detection: {max_ejection_percent: 0}}\n"
        "models: {m: {versions: {v: {pools: [a, b, c, d]}}}}\n",
    )
    assert [f"{each.path}: {each.message} ({each.hint})" for each in routes.warnings] == [
        "pools.a.outlier_detection.max_ejection_percent: ejects no backend: 33 % of 3 is less than one "
        "(write at least 34; 0 says that none is to be ejected)",
        "pools.c.outlier_detection.max_ejection_percent: ejects no backend: 50 % of 1 is less than one "
        "(a pool of one keeps its only backend; 0 says that none is to be ejected)",
    ]


@pytest.mark.parametrize(
    ("rules", "odd"),
    [
        ("{when: {class: batch}, use: [cpu]}", [("v1", "gpu"), ("v3", "big, gpu")]),
        ("{when: {class: batch}, use: [cpu, gpu]}", []),
        ("{use: [gpu, big]}", []),
        ("{use: [cpu]}", [("v3", "big, gpu")]),
    ],
)
def test_a_rule_that_does_nothing_for_a_version_is_odd(tmp_path: Path, rules: str, odd: list[tuple[str, str]]) -> None:
    routes = loaded(
        tmp_path,
        f"""\
pools: {{gpu: {{backends: [http://a]}}, cpu: {{backends: [http://b]}}, big: {{backends: [http://c]}}}}
models:
  m:
    versions: {{v1: {{pools: [gpu]}}, v2: {{pools: [cpu]}}, v3: {{pools: [big, gpu]}}}}
    split: {{v1: 1, v2: 1, v3: 1}}
    rules: [{rules}]
""",
    )
    assert [(each.path, each.message) for each in routes.warnings] == [
        ("models.m.rules[0].use", f"does nothing for version `{version}`, which runs in {pools}")
        for version, pools in odd
    ]


def test_warnings_do_not_keep_routes_from_being_used(tmp_path: Path) -> None:
    routes = loaded(
        tmp_path,
        """\
pools:
  spare: {backends: [http://a]}
models:
  m: {backends: [http://a], timeouts: {first_token: 30s, total: 10s}}
""",
    )

    assert [str(warning).replace(f"{tmp_path}/", "") for warning in routes.warnings] == [
        "routes.yaml:2:3: pools.spare: no model uses this pool\n  hint: name it in the `pools` of a version",
        "routes.yaml:4:53: models.m.timeouts.first_token: can never expire, because `total` is 10s\n"
        "  hint: shorten it, or make `total` longer",
    ]
    assert set(routes.table.models) == {"m"}
