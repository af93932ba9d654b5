"""The gateways that scenarios are played through: how each is set up and started."""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Any

import httpx
import yaml

from gateway.processes.child import Child, ProcessDied, spawn
from loadtest.bench.peers import free_port
from loadtest.scenarios.engines import Engine
from loadtest.scenarios.scenario import Scenario
from loadtest.scenarios.traffic import MODEL, key_sha256

HERE = Path(__file__).parent
PEERS = Path("out/peers/bin")
"""Where `make peers` installs the gateways that come from PyPI."""

ROUTES = "routes.yaml"
"""What a scenario's routes are called in its folder."""

_READY_SECONDS = 60.0
_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "ERROR",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}
_VERSION = re.compile(r"\d+\.\d+[.\d]*")
_URL = re.compile(r"http://[0-9.]+:\d+")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that runs: its name, where clients reach it, and where it tells its metrics, if it does."""

    name: str
    url: str
    admin: str = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a gateway is started for: the scenario, its engines, and a folder for its files."""

    scenario: Scenario
    engines: list[Engine]
    folder: Path

    def weight(self, engine: Engine) -> int | None:
        """The weight of one engine where groups have shares of the load, None where all are alike."""
        group = self.scenario.engines[engine.name.rsplit("-", 1)[0]]
        return None if group.share == 1.0 else round(300 * group.share / group.count)


def configured(setup: Setup) -> Path:
    """Write Tidegate's route file for a scenario and return where it is."""
    path = setup.folder / ROUTES
    path.write_text(yaml.safe_dump(_routes(setup), sort_keys=False))
    return path


def _routes(setup: Setup) -> dict[str, Any]:
    """Return Tidegate's routes for a scenario: its engines as pools, its objective, and what it adds."""
    scenario, objective = setup.scenario, setup.scenario.objective
    long_prompts = {str(tokens): f"{under:g}s" for tokens, under in objective.long_prompts.items()}
    added = scenario.tidegate
    return {
        "pools": {
            name: {
                "accelerator": group.profile,
                "cost_per_hour": group.cost_per_hour,
                "backends": [each.url for each in setup.engines if each.name.rsplit("-", 1)[0] == name],
                **added.get("pools", {}).get(name, {}),
            }
            for name, group in scenario.engines.items()
        },
        "objectives": {
            "scenario": {
                "availability": {"target": objective.availability},
                "ttft": {"target": objective.target, "under": f"{objective.ttft:g}s", "by_prompt_tokens": long_prompts},
                "tpot": {"target": objective.target, "under": f"{objective.tpot:g}s"},
            }
        },
        "classes": added.get("classes", {}),
        "tenants": {
            name: {"key_sha256": key_sha256(name), "debug": True, **of} for name, of in added.get("tenants", {}).items()
        },
        "models": {
            MODEL: {
                "objective": "scenario",
                "versions": {"v1": {"pools": list(scenario.engines)}},
                **added.get("model", {}),
            }
        },
    }


def _nginx(balance: str) -> Callable[[Setup, int], list[str]]:
    def command(setup: Setup, port: int) -> list[str]:
        servers = "\n    ".join(
            f"server {engine.address}" + (f" weight={weight}" if (weight := setup.weight(engine)) else "") + ";"
            for engine in setup.engines
        )
        path = _filled("nginx.conf", setup, port=port, balance=balance, servers=servers)
        return [_found("nginx"), "-p", f"{setup.folder}/", "-c", str(path), "-e", str(setup.folder / "error.log")]

    return command


def _haproxy(setup: Setup, port: int) -> list[str]:
    servers = "\n  ".join(
        f"server {engine.name} {engine.address}" + (f" weight {weight}" if (weight := setup.weight(engine)) else "")
        for engine in setup.engines
    )
    return [_found("haproxy"), "-db", "-f", str(_filled("haproxy.cfg", setup, port=port, servers=servers))]


def _router(name: str) -> Callable[[Setup, int], list[str]]:
    def command(setup: Setup, port: int) -> list[str]:
        address = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
        urls = [engine.url for engine in setup.engines]
        return [_found(name), *(["launch"] if name == "sglang-router" else []), *address, "--worker-urls", *urls]

    return command


def _litellm(setup: Setup, port: int) -> list[str]:
    models = []
    for engine in setup.engines:
        weight = setup.weight(engine)
        parameters = {"model": f"openai/{MODEL}", "api_base": f"{engine.url}/v1", "api_key": "none"}
        models.append({"model_name": MODEL, "litellm_params": parameters | ({"weight": weight} if weight else {})})
    document = {"model_list": models, "router_settings": {"num_retries": 2, "allowed_fails": 3, "cooldown_time": 30}}
    path = setup.folder / "litellm.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return [_found("litellm"), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]


NGINX_ROUND_ROBIN = "nginx round robin"
COMMANDS: dict[str, Callable[[Setup, int], list[str]]] = {
    NGINX_ROUND_ROBIN: _nginx(""),
    "nginx least_conn": _nginx("least_conn;"),
    "HAProxy leastconn": _haproxy,
    "sglang-router": _router("sglang-router"),
    "vllm-router": _router("vllm-router"),
    "LiteLLM": _litellm,
}
TIDEGATE, ROUND_ROBIN = "Tidegate", "Tidegate round robin"
NAMES = (TIDEGATE, ROUND_ROBIN, *COMMANDS)
APART = frozenset(("LiteLLM",))
"""Gateways that need a core for themselves at these rates, and would take it from the others."""
_BINARIES = {name: name.split()[0].lower() for name in COMMANDS}


def missing() -> dict[str, str]:
    """Name the gateways that are not installed, and the command each would need."""
    return {name: binary for name, binary in _BINARIES.items() if shutil.which(binary, path=_path()) is None}


def versions() -> dict[str, str]:
    """Return the version of each gateway that is installed."""
    found = {"Tidegate": metadata.version("tidegate")}
    for binary, option in (("nginx", "-v"), ("haproxy", "-v")):
        if path := shutil.which(binary, path=_path()):
            told = subprocess.run([path, option], capture_output=True, text=True, check=False)
            found[binary] = _VERSION.findall(told.stdout + told.stderr)[0]
    site = [str(path) for path in PEERS.parent.glob("lib/python*/site-packages")]
    packages = {each.name: each.version for each in metadata.distributions(path=site)}
    return found | {name: packages[name] for name in ("sglang-router", "vllm-router", "litellm") if name in packages}


@contextlib.asynccontextmanager
async def running(name: str, setup: Setup) -> AsyncIterator[Gateway]:
    """Start a gateway and wait until it answers a completion; raises ProcessDied where it does not."""
    setup.folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    child = await _start(name, setup, port)
    try:
        gateway = Gateway(name, f"http://127.0.0.1:{port}")
        if name in {TIDEGATE, ROUND_ROBIN}:
            data, admin = _URL.findall(await child.line_with("tidegate serves"))
            gateway = Gateway(name, data, admin)
        await _until_it_answers(gateway, setup)
        yield gateway
    finally:
        await child.stop()


async def _start(name: str, setup: Setup, port: int) -> Child:
    if name == TIDEGATE:
        options = ["--port", "0", "--admin-port", "0", "--state", "memory://", "--no-access-log"]
        return await spawn(name, ["gateway.cli", "serve", str(configured(setup)), *options])
    if name == ROUND_ROBIN:
        return await spawn(name, ["loadtest.scenarios.round_robin", str(configured(setup))])
    process = await asyncio.create_subprocess_exec(
        *COMMANDS[name](setup, port),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=(setup.folder / "out.log").open("wb"),
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **_ENVIRONMENT},
        start_new_session=True,
    )
    return Child(name, process)


async def _until_it_answers(gateway: Gateway, setup: Setup) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "ready?"}], "max_tokens": 1}
    tenant = next(iter(setup.scenario.tidegate.get("tenants", ())), "")
    headers = {"authorization": f"Bearer sk-scenario-{tenant}"} if tenant else {}
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_SECONDS):
                while True:
                    with contextlib.suppress(httpx.HTTPError):
                        url = f"{gateway.url}/v1/chat/completions"
                        if (await client.post(url, json=body, headers=headers)).status_code == 200:
                            return
                    await asyncio.sleep(0.1)
    raise ProcessDied(f"{gateway.name} answered nothing in {_READY_SECONDS:g} s; see {setup.folder}")


def _filled(conf: str, setup: Setup, **values: object) -> Path:
    path = setup.folder / conf
    path.write_text(Template((HERE / "conf" / conf).read_text()).substitute(values))
    return path


def _path() -> str:
    return os.pathsep.join([str(PEERS.absolute()), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def _found(binary: str) -> str:
    path = shutil.which(binary, path=_path())
    if path is None:
        raise ProcessDied(f"{binary} is not installed; `make peers` installs what scenarios are played through")
    return path


def chosen(wanted: Iterable[str], scenario: Scenario) -> list[list[str]]:
    """Return the gateways that can play a scenario: those that do so side by side, then each that plays alone."""
    absent, names = missing(), set(wanted)
    able = [name for name in NAMES if name in names and name not in absent and name not in scenario.without]
    together = [name for name in able if name not in APART]
    return [group for group in (together, *([name] for name in able if name in APART)) if group]
