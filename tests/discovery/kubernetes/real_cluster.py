"""A real API server with etcd and, if wanted, the controller of EndpointSlices: processes on loopback.

The folder that `TIDEGATE_KUBERNETES` names has the programs `etcd`, `kube-apiserver` and `kube-controller-manager`, and
in `inferencepools.yaml` the CRD of the Gateway API Inference Extension. There is no kubelet: pods are as they are
written.
"""

import asyncio
import base64
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from loadtest.bench.peers import free_port
from tests.discovery.kubernetes.api_server import KINDS
from tests.discovery.kubernetes.objects import Json, pod
from tests.e2e.certificates import sign
from tests.waiting import patient_client

ADMIN: Final = "admin-s3cret"
"""The token of one who may do everything."""
CRD: Final = "inferencepools.yaml"
NODE: Final = "10.0.0.29"
MANIFEST: Final = Path(__file__).parents[3] / "deploy/kubernetes/discovery/rbac.yaml"
MERGE: Final = {"content-type": "application/merge-patch+json"}
_START_WITHIN: Final = 120.0
_END_WITHIN: Final = 150.0
"""It lets requests in progress, watches among them, go on for a minute."""
_ROOTS: Final = {
    **{kind: f"{root}/namespaces/{{}}/{plural}" for plural, (root, kind) in KINDS.items()},
    "Namespace": "/api/v1/namespaces",
    "Node": "/api/v1/nodes",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
}


def programs() -> Path | None:
    """Return where the programs are, None where this machine has none."""
    named = os.environ.get("TIDEGATE_KUBERNETES")
    return Path(named) if named else None


@dataclass
class RealCluster:
    """The processes, and what is written to the API server."""

    programs: Path
    folder: Path
    port: int = field(default_factory=free_port)
    etcd_port: int = field(default_factory=free_port)
    _running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _client: httpx.AsyncClient | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def client(self) -> httpx.AsyncClient:
        """A client of one who may do everything."""
        if self._client is None:
            headers = {"authorization": f"Bearer {ADMIN}"}
            self._client = httpx.AsyncClient(
                base_url=self.url,
                headers=headers,
                verify=ssl.create_default_context(cafile=self.authority),
                trust_env=False,
                timeout=60,
            )
        return self._client

    async def start(self) -> None:
        """Start etcd, empty, and the API server."""
        sign(self.folder, names=("server",))
        await _generate_key(self.folder / "sa.key")
        (self.folder / "tokens.csv").write_text(f"{ADMIN},admin,admin,system:masters\n")
        await self.start_etcd()
        await self.start_api_server()

    async def start_etcd(self) -> None:
        """Start etcd, with what it has in its folder."""
        here, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{free_port()}"
        options = {
            "data-dir": str(self.folder / "etcd"),
            "listen-client-urls": here,
            "advertise-client-urls": here,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "unsafe-no-fsync": "true",  # a busy disk is not what is tried here
        }
        await self._run("etcd", options)

    async def start_api_server(self, **more: str) -> None:
        """Start the API server, and wait until it says that it is ready."""
        await self.launch_api_server(**more)
        await self.until_ready()

    async def until_ready(self) -> None:
        """Wait until the API server says that it is ready, with its etcd."""
        async with asyncio.timeout(_START_WITHIN):
            while not await self.is_ready():
                self._must_run("kube-apiserver")
                await asyncio.sleep(0.1)

    async def launch_api_server(self, **more: str) -> None:
        options = {
            "etcd-servers": f"http://127.0.0.1:{self.etcd_port}",
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "endpoint-reconciler-type": "none",
            "secure-port": str(self.port),
            "tls-cert-file": str(self.folder / "server.pem"),
            "tls-private-key-file": str(self.folder / "server.key"),
            "token-auth-file": str(self.folder / "tokens.csv"),
            "authorization-mode": "RBAC",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": str(self.folder / "sa.key"),
            "service-account-signing-key-file": str(self.folder / "sa.key"),
            "service-cluster-ip-range": "10.96.0.0/24",
            "disable-admission-plugins": "ServiceAccount",
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        await self._run("kube-apiserver", options)

    async def start_controllers(self, most: int = 100, period: str = "0s") -> None:
        """Start the controller of EndpointSlices, which puts at most so many endpoints into each.

        It gathers changes of pods for a `period`.
        """
        user = {"name": "admin", "user": {"token": ADMIN}}
        cluster = {"name": "here", "cluster": {"server": self.url, "certificate-authority": str(self.authority)}}
        context = {"name": "here", "context": {"cluster": "here", "user": "admin"}}
        named = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "here"}
        (self.folder / "kubeconfig").write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **named}))
        options = {
            "kubeconfig": str(self.folder / "kubeconfig"),
            "controllers": "endpointslice-controller",
            "max-endpoints-per-slice": str(most),
            "endpointslice-updates-batch-period": period,
            "kube-api-qps": "200",
            "kube-api-burst": "400",
            "leader-elect": "false",
            "bind-address": "127.0.0.1",
            "secure-port": str(free_port()),
            "cert-dir": str(self.folder / "controllers"),
        }
        await self._run("kube-controller-manager", options)

    async def kill(self, program: str = "kube-apiserver") -> None:
        """End a process by SIGKILL."""
        process = self._running.pop(program)
        process.kill()
        await process.wait()

    async def end(self, program: str = "kube-apiserver") -> None:
        """Tell a process to end, and wait until it has."""
        process = self._running.pop(program)
        process.terminate()
        async with asyncio.timeout(_END_WITHIN):
            await process.wait()

    async def restart(self) -> None:
        """Kill the API server, and start it again."""
        await self.kill()
        await self.start_api_server()

    def signal(self, number: int) -> None:
        """Send a signal to the API server."""
        self._running["kube-apiserver"].send_signal(number)

    async def stop(self) -> None:
        """Kill everything."""
        for program in list(self._running):
            await self.kill(program)
        if self._client is not None:
            await self._client.aclose()

    async def _run(self, program: str, options: dict[str, str]) -> None:
        with (self.folder / f"{program}.log").open("ab") as log:
            self._running[program] = await asyncio.create_subprocess_exec(
                self.programs / program,
                *(f"--{name}={value}" for name, value in options.items()),
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    def _must_run(self, program: str) -> None:
        if self._running[program].returncode is not None:
            raise RuntimeError(f"{program} ended: {(self.folder / f'{program}.log').read_text()[-3000:]}")

    async def is_ready(self) -> bool:
        """Whether the API server says that it is."""
        try:
            answer = await self.client.get("/readyz")
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Json:
        """Send what must succeed, and return the answer."""
        answer = await self.client.request(method, path, json=body, headers=headers or None)
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        made: Json = answer.json()
        return made

    async def create(self, *made: Json) -> None:
        """Create objects, with their status where they have one."""
        for each in made:
            metadata = each["metadata"]
            path = _ROOTS[each["kind"]].format(metadata.get("namespace"))
            await self.send("POST", path, {name: value for name, value in each.items() if name != "status"})
            if each["kind"] == "Pod":
                await self.patch("Pod", metadata["name"], status_of(each), part="/status")

    async def patch(self, kind: str, name: str, body: Json, *, part: str = "") -> None:
        await self.send("PATCH", f"{_ROOTS[kind].format('serving')}/{name}{part}", body, **MERGE)

    async def replace(self, made: Json) -> None:
        metadata = made["metadata"]
        await self.send("PUT", f"{_ROOTS[made['kind']].format(metadata['namespace'])}/{metadata['name']}", made)

    async def delete(self, kind: str, name: str, seconds: int | None = None) -> None:
        """Delete an object; a pod terminates until it is deleted with 0 seconds."""
        body = None if seconds is None else {"gracePeriodSeconds": seconds}
        await self.send("DELETE", f"{_ROOTS[kind].format('serving')}/{name}", body)

    async def prepare(self, *, crd: bool = False) -> str:
        """Make the namespaces, a node, the account with the Role of the manifest; return the account's token."""
        spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}} for n in ("serving", "tidegate")]
        labels = {"topology.kubernetes.io/zone": "eu-1a"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "tidegate"}}
        account["metadata"] = {"name": "tidegate", "namespace": "tidegate"}
        await self.create(*spaces, node, account, *_roles())
        if crd:
            await self.create_crd()
        return await self.token()

    async def forbid(self) -> None:
        """Take what it may do from the gateway's account."""
        await self.delete("RoleBinding", "tidegate-discovery")

    async def allow(self) -> None:
        """Give it back."""
        await self.create(_roles()[1])

    async def create_crd(self) -> None:
        """Make the kind InferencePool known, and wait until it is served."""
        await self.create(yaml.safe_load((self.programs / CRD).read_text()))
        async with asyncio.timeout(_START_WITHIN):
            while (await self.client.get(_ROOTS["InferencePool"].format("serving"))).is_error:
                await asyncio.sleep(0.05)

    async def token(self) -> str:
        """Return a new token of the gateway's account, as the kubelet asks for it."""
        path = "/api/v1/namespaces/tidegate/serviceaccounts/tidegate/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        token: str = (await self.send("POST", path, body))["status"]["token"]
        return token

    async def compact(self) -> int:
        """Have etcd forget what was before its newest revision, which is returned."""
        async with patient_client(base_url=f"http://127.0.0.1:{self.etcd_port}", trust_env=False) as client:
            key = base64.b64encode(b"\0").decode()
            newest = (await client.post("/v3/kv/range", json={"key": key, "limit": 1})).json()["header"]["revision"]
            compacted = await client.post("/v3/kv/compaction", json={"revision": newest, "physical": True})
            compacted.raise_for_status()
            return int(newest)


async def _generate_key(file: Path) -> None:
    made = await asyncio.create_subprocess_exec(
        "openssl", "genrsa", "-out", file, "2048", stderr=asyncio.subprocess.PIPE
    )
    _, said = await made.communicate()
    if made.returncode:
        raise RuntimeError(said.decode())


def _roles() -> list[Json]:
    """Return the Role and the RoleBinding of the manifest, in the engines' namespace."""
    roles = list(yaml.safe_load_all(MANIFEST.read_text()))
    for role in roles:
        role["metadata"]["namespace"] = "serving"
    return roles


def made_pod(name: str, address: str | None, *, app: str, ready: bool = True, pool: str = "") -> Json:
    """Return a pod on the node; `pool` is another label."""
    made = pod(name, address, ready=ready, labels={"app": app} | ({"pool": pool} if pool else {}))
    made["spec"]["nodeName"] = NODE
    return made


def status_of(made: Json) -> Json:
    """Return the status of a pod as a patch; its class is the API server's own."""
    return {"status": {name: value for name, value in made["status"].items() if name != "qosClass"}}


def service(*ports: tuple[str, int]) -> Json:
    """Return a Service of the pods of the app vllm."""
    listed = [{"name": name, "port": number, "targetPort": number} for name, number in ports]
    metadata = {"name": "vllm", "namespace": "serving", "labels": {"accelerator": "h100"}}
    spec = {"selector": {"app": "vllm"}, "ports": listed}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


async def set_ready(cluster: RealCluster, name: str, address: str, *, ready: bool) -> None:
    """Write the status of a pod."""
    await cluster.patch("Pod", name, status_of(pod(name, address, ready=ready)), part="/status")


@asynccontextmanager
async def real_cluster(where: Path, folder: Path) -> AsyncIterator[RealCluster]:
    """Run an API server with its etcd until the block ends."""
    cluster = RealCluster(where, folder)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()
