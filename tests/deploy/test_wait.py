"""The preStop hook of an engine, against a gateway: it is stopped when its last request has ended, no sooner."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.deploy.chart import ROOT, needs_helm, render
from tests.e2e.fakes import backends, good
from tests.e2e.harness import gateway
from tests.e2e.test_admission import Gate, begin
from tests.e2e.test_discovery import routes, serving, write
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
SCRIPT = ROOT / "deploy/helm/tidegate/files/wait.py"


async def hook(url: str, *arguments: str, port: int = 0) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT), url, *arguments),
        env=os.environ | {"PORT": str(port)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_an_engine_that_ends_waits_for_its_last_request(tmp_path: Path) -> None:
    gate = Gate()
    async with backends(gate, good) as (ends, other):
        write(tmp_path, [ends])
        async with gateway(tmp_path, routes({"file": "targets.json"}), wait_ready=False) as running:
            await eventually(lambda: serving(running) == {ends.port})
            client = await begin(running, "first")
            await eventually(lambda: gate.prompts == ["first"])
            write(tmp_path, [other])
            await eventually(lambda: serving(running) == {other.port})
            waiting = await hook(running.admin, "m/127.0.0.1:$PORT", port=ends.port)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waiting.wait(), 2.0)
            gate.open.release()
            assert (await client.answer()).complete
            client.close()
            out, err = await waiting.communicate()
            assert (waiting.returncode, err) == (0, b"")
            assert b"no request is in flight" in out
            await running.quiet()


async def test_one_that_no_gateway_knows_any_more_may_end_and_one_in_use_may_not(tmp_path: Path) -> None:
    async with backends(good) as (used,):
        async with gateway(tmp_path, routes(used.url)) as running:
            gone = await hook(running.admin, "m/127.0.0.1:1")
            assert await gone.wait() == 0
            kept = await hook(running.admin, f"m/127.0.0.1:{used.port}", "1")
            _, err = await kept.communicate()
            assert kept.returncode == 1
            assert b"still in flight after 1 s" in err


@needs_helm
def test_the_chart_hands_out_this_script_and_lets_those_engines_ask() -> None:
    engine = {"namespace": "serving", "labels": {"app": "vllm"}, "waits": True}
    objects = render(engines=[engine])
    [script] = [each for each in objects if each["metadata"]["name"] == "tidegate-wait"]
    assert script["metadata"]["namespace"] == "serving"
    assert script["data"]["wait.py"].strip() == SCRIPT.read_text().strip()
    [pods] = [each for each in objects if each["metadata"]["name"] == "tidegate-pods"]
    assert pods["spec"]["clusterIP"] == "None"
    assert "http://tidegate-pods.tidegate.svc:9000" in (ROOT / "docs/deploy.md").read_text()
    [policy] = [each for each in objects if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "tidegate"]
    peers = [
        peer for rule in policy["spec"]["ingress"] if rule["ports"] == [{"port": "admin"}] for peer in rule["from"]
    ]
    assert {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "serving"}},
        "podSelector": {"matchLabels": {"app": "vllm"}},
    } in peers
