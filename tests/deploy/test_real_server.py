"""A real Kubernetes API server takes what chart and manifests say, strictly, and pods under its strictest rules.

It runs where the programs are (tests/discovery/kubernetes/real_cluster.py). With the definitions of KEDA's and the
Prometheus operator's resources beside them, as `crds/*.yaml`, those are taken too; else they are left out:

    TIDEGATE_KUBERNETES=FOLDER pytest tests/deploy/test_real_server.py
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import ROOT, ROUTES, Object, render
from tests.deploy.test_charts import FLEET, HPA, KEDA
from tests.discovery.kubernetes.real_cluster import RealCluster, programs, real_cluster
from tests.waiting import DEADLINE

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(programs() is None, reason="TIDEGATE_KUBERNETES names no folder with kube-apiserver"),
]
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
TOLERANT = {**ROUTES, "pools": {"gpu": {"backends": ["http://vllm:8000"], "capacity": {"hpa_tolerance": 0}}}}
PLURALS = {"NetworkPolicy": "networkpolicies"}
CUSTOM = ("keda.sh", "monitoring.coreos.com")


def sets() -> dict[str, list[Object]]:
    """Return what is applied together, by what it is."""
    found = {
        "one": render(discovery={"namespaces": ["serving"]}),
        "several": render(**FLEET, autoscaling={"enabled": True}),
        "engines": render(engines=[KEDA, HPA | {"namespace": "batch"}], routes=TOLERANT),
        "monitoring": render(monitoring={"serviceMonitor": {"enabled": True}}),
    }
    for path in sorted((ROOT / "deploy/kubernetes").rglob("*.yaml")):
        found[str(path.relative_to(ROOT))] = [each for each in yaml.safe_load_all(path.read_text()) if each]
    return found


def collection(found: Object, namespace: str) -> str:
    root = "/apis" if "/" in found["apiVersion"] else "/api"
    plural = PLURALS.get(found["kind"], f"{found['kind'].lower()}s")
    return f"{root}/{found['apiVersion']}/namespaces/{namespace}/{plural}?fieldValidation=Strict"


async def define(cluster: RealCluster, folder: Path) -> bool:
    """Define the resources of other projects; return whether there are any."""
    files = sorted((folder / "crds").glob("*.yaml"))
    for each in (each for file in files for each in yaml.safe_load_all(file.read_text()) if each):
        answer = await cluster.client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=each)
        assert answer.status_code == 201, answer.text
        async with asyncio.timeout(DEADLINE):
            while not await established(cluster, each["metadata"]["name"]):
                await asyncio.sleep(0.1)
    return bool(files)


async def established(cluster: RealCluster, name: str) -> bool:
    found = await cluster.client.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
    conditions = found.json().get("status", {}).get("conditions") or []
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


async def test_it_takes_every_object_and_the_pods(tmp_path: Path) -> None:
    folder = programs()
    assert folder is not None
    async with real_cluster(folder, tmp_path) as cluster:
        custom = await define(cluster, folder)
        taken = 0
        for number, objects in enumerate(sets().values()):
            for each in objects:
                if each["apiVersion"].startswith(CUSTOM) and not custom:
                    continue
                taken += 1
                await take(cluster, each, f"s{number}")
        assert taken > 40


async def take(cluster: RealCluster, found: Object, prefix: str) -> None:
    """Apply an object, in a namespace of these objects alone, and the pod of a Deployment."""
    namespace = f"{prefix}-{found['metadata'].pop('namespace', 'tidegate')}"
    made: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "labels": RESTRICTED},
    }
    await cluster.client.post("/api/v1/namespaces", json=made)
    objects = [found]
    if found["kind"] == "Deployment":
        template = found["spec"]["template"]
        objects.append({"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": "pod"}})
    for each in objects:
        answer = await cluster.client.post(collection(each, namespace), json=each)
        assert answer.status_code == 201, answer.text
        assert answer.headers.get_list("warning") == []
