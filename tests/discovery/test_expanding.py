"""Routes with what was found."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load_routes
from gateway.config.origins import DnsOrigin, FileOrigin, InferencePoolOrigin, KubernetesOrigin, Origin
from gateway.config.table import RouteTable
from gateway.discovery.expanding import expanded, origins_of
from gateway.discovery.target import Target, TargetState

DNS = DnsOrigin("vllm.svc", 8000)


def loaded(folder: Path, *backends: Any, **pool: Any) -> RouteTable:
    file = folder / "routes.yaml"
    models = {"m": {"versions": {"v1": {"pools": ["p"]}}}}
    file.write_text(json.dumps({"pools": {"p": {"backends": list(backends), **pool}}, "models": models}))
    return load_routes(file)


def target(host: str, port: int = 8000, **more: Any) -> Target:
    return Target(f"{host}:{port}", host, port, **more)


def told(*targets: Target) -> Any:
    return lambda _: targets


def test_routes_without_origins_stay_the_very_same(tmp_path: Path) -> None:
    routes = loaded(tmp_path, "http://a:1")
    assert expanded(routes, told(target("b"))) is routes
    assert origins_of(routes) == {}


def test_every_kind_of_origin_is_read_from_the_routes(tmp_path: Path) -> None:
    routes = loaded(
        tmp_path,
        "http://a:1",
        {"dns": "VLLM.svc", "port": 8000},
        {"dns": "_http._tcp.vllm.svc"},
        {"file": "targets.json"},
        {"kubernetes": {"service": "vllm", "namespace": "serving", "port": "http"}},
        {"kubernetes": {"service": "vllm"}},
        {"inference_pool": "llama", "namespace": "serving"},
        {"inference_pool": "llama"},
    )
    origins: list[Origin] = [
        DNS,
        DnsOrigin("_http._tcp.vllm.svc"),
        FileOrigin(str(tmp_path / "targets.json")),
        KubernetesOrigin("vllm", "serving", "http"),
        KubernetesOrigin("vllm"),
        InferencePoolOrigin("llama", "serving"),
        InferencePoolOrigin("llama"),
    ]
    assert origins_of(routes) == {origin: ["p"] for origin in origins}
    assert [str(each) for each in origins] == [
        "dns vllm.svc:8000",
        "dns _http._tcp.vllm.svc",
        f"file {tmp_path}/targets.json",
        "kubernetes serving/vllm:http",
        "kubernetes vllm",
        "inference_pool serving/llama",
        "inference_pool llama",
    ]


def test_found_backends_have_what_the_routes_say_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "k")
    entry = {"dns": "vllm.svc", "port": 8000, "max_concurrency": 4, "api_key": "${KEY}"}
    routes = loaded(tmp_path, entry, priority_scheduling=True)
    (spec,) = expanded(routes, told(target("fd00::1", tls=True))).pools["p"].backends
    assert (spec.id, spec.url, spec.tls) == ("p/[fd00::1]:8000", "https://[fd00::1]:8000", True)
    assert (spec.max_concurrency, spec.api_key, spec.priority_scheduling) == (4, "k", True)
    assert (spec.key, spec.leaving) == ("fd00::1:8000", False)
    assert "'k'" not in repr(routes)


def test_labels_say_which_targets_belong_to_a_pool_and_how_much_they_bear(tmp_path: Path) -> None:
    entry = {"file": "t.json", "where": {"gpu": "h100"}, "max_concurrency_label": "slots", "max_concurrency": 9}
    targets = [
        target("a", labels=(("gpu", "h100"), ("slots", "64"))),
        target("b", labels=(("gpu", "h100"), ("slots", "many"))),
        target("c", labels=(("gpu", "a100"),)),
        target("d", labels=(("gpu", "h100"), ("slots", "0"))),
    ]
    found = expanded(loaded(tmp_path, entry), told(*targets)).pools["p"].backends
    assert [(spec.host, spec.max_concurrency) for spec in found] == [("a", 64), ("b", 9), ("d", 9)]
    (discovery,) = loaded(tmp_path, entry).pools["p"].discovered
    assert str(discovery) == f"file {tmp_path}/t.json where gpu=h100"


def test_what_the_routes_name_themselves_comes_first_and_what_stays_before_what_goes(tmp_path: Path) -> None:
    routes = loaded(tmp_path, "http://a:8000", {"dns": "vllm.svc", "port": 8000}, {"file": "t.json"})
    going = TargetState.DRAINING

    def targets(origin: Origin) -> list[Target]:
        return [target("a"), target("b", state=going)] if origin == DNS else [target("b"), target("c", state=going)]

    found = expanded(routes, targets).pools["p"].backends
    assert [(spec.host, spec.key, spec.leaving) for spec in found] == [
        ("a", "", False),
        ("b", "b:8000", False),
        ("c", "c:8000", True),
    ]
