"""What deploy/ starts, started here: the very arguments, other addresses."""

import asyncio
import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.processes import Process, engine, running
from tests.redis_server import redis_server
from tests.rules.made import needs_promtool
from tests.waiting import DEADLINE, patient_client

DEPLOY = Path(__file__).parents[2] / "deploy"
URL = re.compile(r"http://[0-9.]+:\d+")

pytestmark = pytest.mark.anyio


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return found


def manifest(kind: str, file: str = "tidegate.yaml") -> dict[str, Any]:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes" / file).read_text())
    return next(each for each in documents if each["kind"] == kind)


def unit() -> str:
    return (DEPLOY / "systemd" / "tidegate.service").read_text()


def container(file: str = "tidegate.yaml") -> dict[str, Any]:
    found: dict[str, Any] = manifest("Deployment", file)["spec"]["template"]["spec"]["containers"][0]
    return found


STARTS = {
    "compose": compose()["gateway"]["command"],
    "kubernetes": container()["args"],
    # There the URL is in a Secret.
    "kubernetes, several": [*container("fleet/tidegate.yaml")["args"], "--state=redis://redis.tidegate.svc:6379/0"],
    "systemd": shlex.split(re.findall(r"(?m)^ExecStart=\S+ (.*)$", unit())[0]),
}


def moved(arguments: list[str], folder: Path) -> list[str]:
    """Return arguments whose absolute paths lie below `folder`, on free ports of loopback."""
    below = [re.sub(r"(^|=)(sqlite:///)?(/(?:etc|var)/)", rf"\1\2{folder}\3", each) for each in arguments]
    hosts = ("--host", "--admin-host")
    return [*(each for each in below if not each.startswith(hosts)), "--port", "0", "--admin-port", "0"]


@contextmanager
def stored(arguments: list[str], folder: Path) -> Iterator[list[str]]:
    """Yield the arguments with a server in place of one in another container; at the end something is saved."""
    server = next((each for each in arguments if each.startswith("--state=redis://")), "")
    if not server:
        yield arguments
        assert list((folder / "var/lib/tidegate").glob("state.sqlite*"))
        return
    with redis_server(folder / "redis", *compose()["valkey"]["command"][1:]) as redis:
        yield [f"--state={redis.url}" if each is server else each for each in arguments]
        with redis.client() as client:
            assert client.dbsize() > 0


def mount(folder: Path, routes: str, version: str) -> None:
    """Write routes as the kubelet mounts a ConfigMap: behind a link that is replaced as a whole."""
    (folder / f"..{version}").mkdir(parents=True)
    (folder / f"..{version}" / "routes.yaml").write_text(routes)
    os.symlink(f"..{version}", folder / "..data_tmp")
    os.replace(folder / "..data_tmp", folder / "..data")
    if not (folder / "routes.yaml").is_symlink():
        os.symlink("..data/routes.yaml", folder / "routes.yaml")


async def until_answered(url: str, model: str) -> None:
    body = {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
    async with asyncio.timeout(DEADLINE), patient_client(base_url=url) as client:
        while (await client.post("/v1/chat/completions", json=body)).status_code != 200:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("way", STARTS)
async def test_the_arguments_start_a_gateway_that_serves_and_follows_its_routes(way: str, tmp_path: Path) -> None:
    arguments = moved(STARTS[way], tmp_path)
    where = Path(arguments[1])
    (tmp_path / "var/lib/tidegate").mkdir(parents=True)
    (tmp_path / "etc/tidegate/admin").mkdir(parents=True)
    (tmp_path / "etc/tidegate/admin/token").write_text("not-a-secret-of-anybody")
    with stored(arguments, tmp_path) as given:
        async with engine(model="demo-chat") as simulated:
            await serve_and_follow(given, where, simulated)


async def serve_and_follow(arguments: list[str], where: Path, simulated: Process) -> None:
    """Serve, take new routes, and end when told to."""

    def routes(name: str) -> str:
        versions = {"v1": {"served_model": "demo-chat", "pools": ["p"]}}
        return json.dumps({"models": {name: {"versions": versions}}, "pools": {"p": {"backends": [simulated.urls[0]]}}})

    if where.suffix:
        where.write_text(routes("first"))
    else:
        mount(where, routes("first"), "2026_01")
    async with running("gateway.cli", *arguments) as gateway:
        url = URL.findall(await gateway.said("tidegate serves"))[0]
        await until_answered(url, "first")
        if where.suffix:
            where.write_text(routes("second"))
        else:
            mount(where, routes("second"), "2026_02")
        await until_answered(url, "second")
        gateway.process.terminate()
        assert await gateway.ended() == 0


async def test_a_sick_engine_does_not_make_the_gateways_container_unhealthy(tmp_path: Path) -> None:
    assert "healthcheck" not in compose()["gateway"], "it has that of the image"
    found = re.findall(r"(?m)^HEALTHCHECK .*CMD (\[.*\])$", (DEPLOY.parent / "Dockerfile").read_text())
    python, *check = json.loads(found[0])
    assert python == "python"
    (tmp_path / "routes.yaml").write_text("models: {m: {backends: [http://127.0.0.1:9]}}")
    arguments = ("serve", str(tmp_path / "routes.yaml"), "--state", "memory://", "--port", "0", "--admin-port", "0")
    async with running("gateway.cli", *arguments) as gateway:
        url = URL.findall(await gateway.said("tidegate serves"))[0]
        environment = os.environ | {"TIDEGATE_PORT": url.rpartition(":")[2]}

        async def status() -> int:
            return await (await asyncio.create_subprocess_exec(sys.executable, *check, env=environment)).wait()

        assert await status() == 0
        gateway.process.terminate()
        await gateway.ended()
        assert await status() != 0


def test_one_service_of_compose_builds_the_image_that_the_others_use() -> None:
    image = compose()["gateway"]["image"]
    assert [name for name, service in compose().items() if "build" in service] == ["gateway"]
    assert {compose()[name]["image"] for name in ("engine-a", "engine-b", "load", "rules")} == {image}


@pytest.mark.parametrize("name", compose())
def test_a_container_has_no_privileges_and_says_how_it_is(name: str) -> None:
    service = compose()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "devices", "pid", "ipc"}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    # The gateway has that of its image; two serve nothing.
    assert ("test" in service.get("healthcheck", {})) is (name not in {"gateway", "load", "rules"})


def test_what_a_container_waits_for_can_become_so() -> None:
    for name, service in compose().items():
        for other, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert other == "gateway" or "test" in compose()[other]["healthcheck"], name


def test_every_file_and_volume_that_is_mounted_is_there() -> None:
    volumes = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["volumes"]
    named = {each.split(":")[0] for service in compose().values() for each in service.get("volumes", ())}
    assert named >= {"./load.py", "./alertmanager.yml", "valkey"}
    assert [each for each in named if each.startswith("./") and not (DEPLOY / each).exists()] == []
    assert {each for each in named if not each.startswith("./")} == volumes.keys()


async def test_there_is_something_to_see_without_a_client() -> None:
    python, script = compose()["load"]["entrypoint"]
    _, model = compose()["load"]["command"]
    assert python == "python"
    async with engine(model=model) as simulated:
        process = await asyncio.create_subprocess_exec(
            sys.executable, DEPLOY / Path(script).name, simulated.urls[0], model, "12", stderr=asyncio.subprocess.PIPE
        )
        _, err = await process.communicate()
        async with patient_client(base_url=simulated.urls[0]) as client:
            metrics = (await client.get("/metrics")).text
    assert (process.returncode, err) == (0, b"")
    done = re.findall(r"(?m)^vllm:request_success_total\{.*\} ([0-9.]+)$", metrics)
    assert sum(map(float, done)) == 12


def test_alertmanager_gets_the_alerts_and_tells_one_incident_once() -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    [manager] = prometheus["alerting"]["alertmanagers"]
    name, port = manager["static_configs"][0]["targets"][0].split(":")
    assert any(each.endswith(f":{port}") for each in compose()[name]["ports"])
    found = yaml.safe_load((DEPLOY / "alertmanager.yml").read_text())
    assert found["route"]["receiver"] in {each["name"] for each in found["receivers"]}
    assert found["route"]["group_by"] == ["model", "objective", "sli"]
    assert found["inhibit_rules"] == [
        {
            "source_matchers": ['severity="page"'],
            "target_matchers": ['severity="ticket"'],
            "equal": ["model", "objective", "sli"],
        }
    ]


async def test_the_engines_of_compose_serve_the_model_of_its_routes() -> None:
    table = yaml.safe_load((DEPLOY / "routes.yaml").read_text())["models"]
    for name in ("engine-a", "engine-b"):
        arguments = [each for each in compose()[name]["command"] if not each.startswith(("--host", "--port"))]
        assert f"http://{name}:8000" in table["demo-chat"]["backends"]
        async with running("gateway.cli", *arguments, "--port", "0") as simulated:
            url = URL.findall(await simulated.said("listening on"))[0]
            await until_answered(url, "demo-chat")


@needs_promtool
def test_prometheus_reads_the_rules_that_compose_writes_for_it(tmp_path: Path) -> None:
    [script] = compose()["rules"]["command"]
    for written in (tmp_path / "generated", tmp_path / "etc"):
        written.mkdir()
    script = script.replace("tidegate rules", f"{sys.executable} -m gateway.cli rules")
    script = script.replace("/etc/tidegate/", f"{DEPLOY}/").replace("/var/lib/tidegate/", f"{tmp_path}/generated/")
    subprocess.run([*compose()["rules"]["entrypoint"][:1], "-euc", script], check=True, cwd=DEPLOY.parent)
    shutil.copy(DEPLOY / "prometheus.yml", tmp_path)

    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "1 rule files found" in done.stdout
    titles = {json.loads(path.read_text())["title"] for path in (tmp_path / "generated").glob("*.json")}
    assert titles == {"Tidegate", "Tidegate: demo-chat"}


class TestKubernetes:
    def test_the_time_to_end_covers_the_hook_and_the_drain(self) -> None:
        options = dict(each.removeprefix("--").split("=") for each in container()["args"] if each.startswith("--"))
        hook = int(container()["lifecycle"]["preStop"]["exec"]["command"][-1])
        needed = hook + int(options["drain-delay"]) + int(options["drain-timeout"])
        grace = manifest("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert needed < grace

    def test_endpoints_forget_a_pod_before_its_listener_closes(self) -> None:
        options = dict(each.removeprefix("--").split("=") for each in container()["args"] if each.startswith("--"))
        probe = container()["readinessProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] <= int(options["drain-delay"])

    def test_the_service_of_clients_does_not_reach_the_admin_listener(self) -> None:
        assert [port["targetPort"] for port in manifest("Service")["spec"]["ports"]] == ["http"]


def test_systemd_upgrades_where_it_is_told_to_reload_and_is_told_when_the_gateway_serves() -> None:
    assert "\nType=notify\n" in unit()
    assert "\nExecReload=/bin/kill -USR2 $MAINPID\n" in unit()
    assert "--workers" in STARTS["systemd"], "one process alone has no successor"


def test_the_socket_of_systemd_is_that_of_the_service() -> None:
    found = configparser.ConfigParser()
    found.read(DEPLOY / "systemd" / "tidegate.socket")
    assert found["Socket"]["ListenStream"] == "127.0.0.1:8080"
    assert not found["Socket"]["FileDescriptorName"].startswith("admin")


def test_systemd_waits_as_long_as_the_gateway_drains() -> None:
    assert int(re.findall(r"TimeoutStopSec=(\d+)", unit())[0]) > int(re.findall(r"--drain-timeout (\d+)", unit())[0])
