"""The gateways that scenarios are played through: how each is set up and started."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from gateway.processes.child import Child, ProcessDied, spawn
from loadtest.bench.peers import free_port
from loadtest.scenarios.peers import COMMANDS, Setup, missing
from loadtest.scenarios.scenario import Scenario
from loadtest.scenarios.traffic import MODEL, key, key_sha256

ROUTES = "routes.yaml"
"""What a scenario's routes are called in its folder."""

_READY_SECONDS = 60.0
_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "ERROR",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}
_URL = re.compile(r"http://[0-9.]+:\d+")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that runs: its name, where clients reach it, and where it tells its metrics, if it does."""

    name: str
    url: str
    admin: str = ""


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
        "pools": {name: {**of, **added.get("pools", {}).get(name, {})} for name, of in _pools(setup).items()},
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
                "versions": {"v1": {"pools": list(_pools(setup))}},
                **added.get("model", {}),
            }
        },
    }


TIDEGATE, ROUND_ROBIN = "Tidegate", "Tidegate round robin"
NAMES = (TIDEGATE, ROUND_ROBIN, *COMMANDS)
APART = {"LiteLLM": frozenset(("fast-failing", "stream-cuts"))}
"""Gateways that need a core for themselves at these rates, so that they play alone, and in which scenarios."""


def _pools(setup: Setup) -> dict[str, dict[str, Any]]:
    """Return the pools that the groups of engines make, in the order of the scenario."""
    pools: dict[str, dict[str, Any]] = {}
    for name, group in setup.scenario.engines.items():
        fresh: dict[str, Any] = {"accelerator": group.profile, "cost_per_hour": group.cost_per_hour, "backends": []}
        pool = pools.setdefault(group.pool or name, fresh)
        told = setup.scenario.tidegate.get("backend", {})
        pool["backends"] += [{"url": each.url, **told} for each in setup.engines if each.group == name]
    return pools


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
    headers = {"authorization": f"Bearer {key(tenant)}"} if tenant else {}
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


def chosen(wanted: Iterable[str], scenario: Scenario) -> list[list[str]]:
    """Return the gateways that can play a scenario: those that do so side by side, then each that plays alone."""
    absent, names = missing(), set(wanted)
    able = [name for name in NAMES if name in names and name not in absent and name not in scenario.without]
    together = [name for name in able if name not in APART]
    apart = [[name] for name in able if name in APART and (scenario.name in APART[name] or len(names) == 1)]
    return [group for group in (together, *apart) if group]
