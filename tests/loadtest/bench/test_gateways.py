import shutil
from pathlib import Path

import pytest
import yaml

from gateway.config.load import load
from loadtest.bench import gateways, peers

WORLD = gateways.World((4102, 4103, 4104, 4105), "http://127.0.0.1:4106")


def started(name: str, folder: Path) -> list[str]:
    return gateways.gateway(name).start(WORLD, 4101, folder)


@pytest.fixture(autouse=True)
def everything_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program, **_: program)
    monkeypatch.setenv("TIDEGATE", "python -m gateway")


def test_nginx_listens_and_forwards_where_it_is_told_and_keeps_its_files_together(tmp_path: Path) -> None:
    argv = started("nginx", tmp_path)
    conf = (tmp_path / "nginx.conf").read_text()
    assert argv[:3] == ["nginx", "-p", f"{tmp_path}/"]
    assert "listen 127.0.0.1:4101 " in conf
    assert "server 127.0.0.1:4102;" in conf
    assert "4103" not in conf
    assert "$" not in conf


@pytest.mark.parametrize("name", ["off", "on"])
def test_tidegate_serves_a_routes_file_that_names_its_engines(name: str, tmp_path: Path) -> None:
    argv = started(name, tmp_path)
    routes = tmp_path / "routes.yaml"
    assert argv[:5] == ["python", "-m", "gateway", "serve", str(routes)]
    assert argv[5:9] == ["--host", "127.0.0.1", "--port", "4101"]
    (pool,) = load(routes).table.pools.values()
    assert [backend.port for backend in pool.backends] == list(WORLD.engines[: 1 if name == "off" else 4])


def test_with_everything_on_requests_have_a_tenant_five_slis_and_traces(tmp_path: Path) -> None:
    argv = started("on", tmp_path)
    assert argv[-4:] == ["--trace-ratio", "0.01", "--otlp-endpoint", WORLD.collector]
    assert "--no-access-log" not in argv
    document = yaml.safe_load((tmp_path / "routes.yaml").read_text())
    assert list(document["objectives"]["all"]) == ["availability", "ttft", "tpot", "itl", "e2e"]
    assert "tokens_per_minute" in document["tenants"]["one"]["limits"]


@pytest.mark.parametrize("name", gateways.PEERS)
def test_others_are_told_of_their_port_and_of_every_engine(name: str, tmp_path: Path) -> None:
    argv = started(name, tmp_path)
    told = " ".join([*argv, *(path.read_text() for path in tmp_path.iterdir())])
    assert all(str(port) in told for port in (4101, *WORLD.engines))
    assert "$" not in told


def test_envoy_is_told_in_yaml(tmp_path: Path) -> None:
    started("Envoy", tmp_path)
    document = yaml.safe_load((tmp_path / "envoy.yaml").read_text())
    (cluster,) = document["static_resources"]["clusters"]
    assert len(cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]) == len(WORLD.engines)


def test_what_is_not_installed_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_kwargs: None)
    with pytest.raises(SystemExit, match="vllm-router is not installed: make peers"):
        started("vllm-router", tmp_path)
    with pytest.raises(SystemExit, match="apt-get install haproxy"):
        started("HAProxy", tmp_path)
    assert peers.find_tidegate()
