"""The examples for CD systems in deploy/ci, run as those systems run them, against a gateway."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.policy.canary.rollout import Event, Phase
from tests.e2e.fakes import backends, good
from tests.e2e.harness import Running, gateway
from tests.e2e.test_canary import routes
from tests.waiting import DEADLINE, eventually

CI = Path(__file__).parents[2] / "deploy" / "ci"
TOKEN = "a-token-of-the-cd-system"

pytestmark = pytest.mark.anyio


def workflow() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CI / "github-actions.yaml").read_text())
    return found


def hook() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CI / "argocd-presync.yaml").read_text()))


def pipeline() -> str:
    return (CI / "Jenkinsfile").read_text()


def jenkins_environment() -> dict[str, str]:
    return dict(re.findall(r"(?m)^    ([A-Z_]+) = '(.*)'$", pipeline()))


def as_the_examples_call_it(old: str, new: str) -> str:
    document = json.loads(routes(old, new, start="manual", hold="30s"))
    model = document["models"].pop("m")
    for version in model["versions"].values():
        version["served_model"] = "m"
    return json.dumps({**document, "models": {"llama-3.1-8b": model}})


class Agent:
    """A machine that runs steps: with `tidegate` on its PATH, and a `kubectl` that only notes how it was called."""

    def __init__(self, folder: Path) -> None:
        self._bin = folder / "bin"
        self._bin.mkdir()
        self._calls = folder / "calls"
        self._put("tidegate", f'exec {sys.executable} -m gateway "$@"')
        self._put("kubectl", f'echo "$@" >> {self._calls}')

    def _put(self, name: str, text: str) -> None:
        path = self._bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    @property
    def kubectl(self) -> list[str]:
        """How it was called."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    async def run(self, shell: str, script: str, running: Running, env: Mapping[str, str]) -> tuple[int, str]:
        """Return how a step ended, and what it printed."""
        own = {
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "TIDEGATE_ADMIN": running.admin,
            "TIDEGATE_ADMIN_TOKEN": TOKEN,
        }
        process = await asyncio.create_subprocess_exec(
            shell,
            "-ec",
            script,
            env={**env, **own},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(DEADLINE):
            printed, _ = await process.communicate()
        return process.returncode or 0, printed.decode()


async def start_rollout(running: Running) -> None:
    rollouts = running.app.control.rollouts
    found = rollouts.ask("llama-3.1-8b", Event.START, actor="ann", reason="")
    await eventually(lambda: found.rollout.phase is Phase.STEP)


class Pipeline:
    """The steps of an example: the gate, and those after it."""

    def __init__(self, shell: str, steps: list[str], env: Mapping[str, str]) -> None:
        self.shell = shell
        self.gate, *self.rest = steps
        self.env = env


def github() -> Pipeline:
    found = workflow()
    steps = [each["run"] for each in found["jobs"]["deploy"]["steps"] if "run" in each]
    return Pipeline("bash", steps, {**found["env"], "FIX": "", "GITHUB_RUN_ID": "run-42"})


def jenkins() -> Pipeline:
    steps = re.findall(r"sh '(.*?)'(?: \}|$)", pipeline(), re.MULTILINE)
    return Pipeline("sh", steps, {**jenkins_environment(), "FIX": "false", "BUILD_TAG": "jenkins-models-42"})


@pytest.mark.parametrize("example", [github(), jenkins()], ids=["GitHub Actions", "Jenkins"])
async def test_a_pipeline_passes_the_gate_and_deploys_and_is_stopped_by_a_rollout(
    example: Pipeline, tmp_path: Path
) -> None:
    agent = Agent(tmp_path)
    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, as_the_examples_call_it(old.url, new.url), token=TOKEN) as running:
            status, printed = await agent.run(example.shell, example.gate, running, example.env)
            assert (status, printed.splitlines()[0]) == (0, "go")
            for step in example.rest:
                status, printed = await agent.run(example.shell, step, running, example.env)
                assert status == 0, printed
            (deployment,) = running.app.control.deployments
            assert deployment.id in {"run-42", "jenkins-models-42"}
            assert agent.kubectl == ["apply --filename engines/"]
            await start_rollout(running)
            status, printed = await agent.run(example.shell, example.gate, running, example.env)
            assert (status, printed.startswith("stop: the rollout of v2 is in progress")) == (1, True)


async def test_the_hook_of_argo_cd_runs_before_a_sync_and_asks_the_gate(tmp_path: Path) -> None:
    job, policy = hook()
    assert job["metadata"]["annotations"]["argocd.argoproj.io/hook"] == "PreSync"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    names = {each["name"] for each in container["env"]}
    assert names == {"TIDEGATE_ADMIN", "TIDEGATE_ADMIN_TOKEN"}
    assert job["spec"]["backoffLimit"] == 0, "a stop is an answer, and not a reason to ask again"
    (admitted,) = policy["spec"]["ingress"][0]["from"]
    assert admitted["podSelector"]["matchLabels"] == job["spec"]["template"]["metadata"]["labels"]
    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, as_the_examples_call_it(old.url, new.url), token=TOKEN) as running:
            command = " ".join(("tidegate", *container["args"]))
            assert await Agent(tmp_path).run("sh", command, running, {}) == (
                0,
                "go\nnote: no requests have been counted yet\n",
            )


def test_a_fix_gets_through_where_a_person_says_so() -> None:
    expression = workflow()["jobs"]["deploy"]["env"]["FIX"]
    assert expression == "${{ inputs.fix && '--despite-budget' || '' }}"
    assert '$([ "$FIX" = true ] && echo --despite-budget)' in jenkins().gate


def test_the_files_name_what_deploy_kubernetes_sets_up() -> None:
    documents = list(yaml.safe_load_all((CI.parent / "kubernetes" / "tidegate.yaml").read_text()))
    (service,) = [
        each for each in documents if each["kind"] == "Service" and each["metadata"]["name"].endswith("admin")
    ]
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    job, policy = hook()
    env = {each["name"]: each for each in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["TIDEGATE_ADMIN"]["value"] == f"http://{name}:{port}"
    assert env["TIDEGATE_ADMIN_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "tidegate-admin", "key": "token"}
    assert (
        workflow()["env"]["TIDEGATE_ADMIN"]
        == jenkins_environment()["TIDEGATE_ADMIN"]
        == f"http://{name}.tidegate.svc:{port}"
    )
    (own,) = [each for each in documents if each["kind"] == "NetworkPolicy"]
    assert policy["spec"]["podSelector"] == own["spec"]["podSelector"]
