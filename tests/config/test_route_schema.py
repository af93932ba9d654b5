import json
from pathlib import Path
from typing import get_args

import pytest

from gateway.config.load import load
from gateway.config.schema import fields_at, json_schema
from gateway.config.steering_schema import Path as RoutedPath
from gateway.wire.endpoints import FORWARDED

ROUTES = Path(__file__).parents[2] / "routes"
BACKEND = {"url", "dns", "port", "file", "kubernetes", "inference_pool", "namespace", "where"} | {
    "max_concurrency",
    "max_concurrency_label",
    "api_key",
    "api_key_file",
}
SAMPLES = sorted(ROUTES.glob("*.yaml"))


def test_the_schema_file_is_the_one_that_the_models_print() -> None:
    assert (ROUTES / "schema.json").read_text() == json.dumps(json_schema(), indent=2) + "\n"


def test_there_are_samples() -> None:
    assert {"minimal.yaml", "gpu-and-cpu.yaml", "canary-split.yaml"} <= {sample.name for sample in SAMPLES}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
class TestSamples:
    def test_it_loads_without_any_variable_and_without_warnings(self, sample: Path) -> None:
        assert load(sample, {}).warnings == ()

    def test_its_first_line_tells_editors_where_the_schema_is(self, sample: Path) -> None:
        _, _, schema = sample.read_text().splitlines()[0].partition("# yaml-language-server: $schema=")
        assert (sample.parent / schema).is_file()


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ((), {"pools", "budgets", "models", "objectives", "classes", "tenants"}),
        (
            ("objectives", "fast"),
            {
                "window",
                "availability",
                "ttft",
                "tpot",
                "itl",
                "e2e",
                "cold_start",
                "throughput",
                "deployment",
                "deployment_stages",
                "hold",
            },
        ),
        (("objectives", "fast", "ttft"), {"target", "under", "by_prompt_tokens"}),
        (("objectives", "fast", "itl"), {"target", "under"}),
        (("pools",), set()),
        (("pools", "gpu", "backends", 0), BACKEND),
        (("pools", "gpu", "capacity", "signals"), {"backlog", "running", "slots_used", "kv_used"}),
        (("budgets", "gpus"), {"replicas", "cost_per_hour", "aim"}),
        (("models", "m", "backends", 3), BACKEND),
        (("models", "m", "backends", 3, "kubernetes"), {"service", "namespace", "port"}),
        (("models", "m", "versions", "v1"), {"pools", "served_model"}),
        (("models", "m", "timeouts"), {"connect", "first_byte", "first_token", "stall", "total"}),
        (("models", "m", "split"), set()),
        (("models", "m", "nothing", "deeper"), set()),
    ],
)
def test_the_schema_knows_its_keys_at_every_path(path: tuple[str | int, ...], keys: set[str]) -> None:
    assert fields_at(path).keys() == keys


def test_every_key_tells_people_what_it_is_for() -> None:
    definitions = json_schema()["$defs"].values()
    undescribed = [
        key
        for entry in definitions
        for key, value in entry["properties"].items()
        if not {"description", "$ref"} & value.keys()
    ]

    assert undescribed == []


def test_rules_know_every_path_that_is_forwarded_and_no_other() -> None:
    assert set(get_args(RoutedPath)) == {path.decode() for path in FORWARDED}
