"""Records what a real API server says into `streams`, to an account that has the Role of our manifest.

    TIDEGATE_KUBERNETES=FOLDER python -m tests.discovery.kubernetes.record [SCENARIO...]

The folder has the programs (`real_cluster.py`). It takes some minutes, since API servers send bookmarks once a minute.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gateway.discovery.kubernetes.resources import Collection, pods_with, pool_named, slices_of
from tests.discovery.kubernetes.api_server import KINDS
from tests.discovery.kubernetes.objects import Json, endpoint, endpoint_slice, inference_pool, port
from tests.discovery.kubernetes.real_cluster import (
    NODE,
    RealCluster,
    made_pod,
    programs,
    real_cluster,
    service,
    set_ready,
)
from tests.discovery.kubernetes.recorder import Recorder, Recording

SLICES: Final = slices_of("vllm", "serving")
POOL: Final = pool_named("llama", "serving")
PODS: Final = pods_with("app=llama", "serving")
OWNER: Final = {
    "metadata": {"annotations": {"serving.example/besitzer": "Künstliche Intelligenz <ki@example> & 推論チーム"}}
}


async def listed(cluster: RealCluster) -> dict[str, tuple[str, bool, bool]]:
    """Return the slice of each address, and whether it serves and terminates."""
    root = KINDS["endpointslices"][0]
    found = {}
    for part in (await cluster.send("GET", f"{root}/namespaces/serving/endpointslices"))["items"]:
        for each in part["endpoints"] or ():
            conditions = each["conditions"]
            state = part["metadata"]["name"], conditions["serving"], conditions["terminating"]
            found[each["addresses"][0]] = state
    return found


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(180):
        while not await condition():
            await asyncio.sleep(0.05)


async def shows(cluster: RealCluster, **states: tuple[bool, bool] | None) -> None:
    """Wait until the controller shows whether addresses, `a3` for 10.1.0.3, serve and terminate; None has gone."""

    async def is_so() -> bool:
        found = await listed(cluster)
        wanted = {f"10.1.0.{name[1:]}": state for name, state in states.items()}
        return all((found[each][1:] if each in found else None) == state for each, state in wanted.items())

    await until(is_so)


BOOKMARK: Final = b'{"type":"BOOKMARK"'
READY, UNREADY, LEAVING, ENDING = (True, False), (False, False), (True, True), (False, True)


async def record_slices(cluster: RealCluster) -> None:
    """Pods of a Service that come and go; the controller puts two into each slice."""
    recorder = Recorder(cluster, await cluster.prepare())
    names = {number: f"vllm-56c4d977d8-zxkn{number}" for number in range(1, 6)}

    async def ready(number: int, *, ready: bool) -> None:
        await set_ready(cluster, names[number], f"10.1.0.{number}", ready=ready)

    async def come(*numbers: int, ready: bool = True) -> None:
        made = [made_pod(names[number], f"10.1.0.{number}", app="vllm", ready=ready) for number in numbers]
        await cluster.create(*made)

    await come(1, 2)
    await cluster.create(service(("http", 8000), ("metrics", 9090)))
    await cluster.start_controllers(most=2)
    await shows(cluster, a1=READY, a2=READY)
    await cluster.patch("EndpointSlice", (await listed(cluster))["10.1.0.1"][0], OWNER)
    first = await recorder.list(SLICES)
    first.save("slices_list")
    watch = await recorder.watch(SLICES, first.version, 135)
    await come(3, ready=False)
    await shows(cluster, a3=UNREADY)
    await ready(3, ready=True)
    await shows(cluster, a3=READY)
    await cluster.delete("Pod", names[1], 60)
    await shows(cluster, a1=LEAVING)
    await ready(1, ready=False)
    await shows(cluster, a1=ENDING)
    await watch.has(BOOKMARK)
    await cluster.delete("Pod", names[1], 0)
    await shows(cluster, a1=None)
    await cluster.delete("Pod", names[3], 60)
    await shows(cluster, a3=LEAVING)
    await cluster.delete("Pod", names[3], 0)
    await shows(cluster, a3=None)
    (await watch.ended()).save("slices_watch")


async def record_expired(cluster: RealCluster) -> None:
    """Versions that were compacted in etcd, before an API server that knows no earlier ones was started."""
    recorder = Recorder(cluster, await cluster.prepare())
    parts = [endpoint_slice(f"vllm-{n}", [endpoint(f"p{n}", f"10.1.0.{n}")], ports=[port()]) for n in (2, 4)]
    await cluster.create(*map(written, parts))
    page = await (await recorder.open(SLICES, limit="1")).ended()
    page.save("slices_page")
    await cluster.patch("EndpointSlice", "vllm-4", OWNER)
    await cluster.kill()
    await cluster.compact()
    await cluster.start_api_server()
    more = page.json["metadata"]["continue"]
    (await (await recorder.open(SLICES, limit="1", **{"continue": more})).ended()).save("continue_gone")
    (await recorder.list(SLICES)).save("slices_list_later")
    (await (await recorder.watch(SLICES, page.version, 60)).ended()).save("gone_watch")
    exact = {"resourceVersion": page.version, "resourceVersionMatch": "Exact"}
    (await (await recorder.open(SLICES, **exact)).ended()).save("gone")


async def record_ports(cluster: RealCluster) -> None:
    """A Service that gets another port: the controller puts all its endpoints into other slices."""
    recorder = Recorder(cluster, await cluster.prepare())
    await cluster.create(*(made_pod(f"vllm-{number}", f"10.1.0.{number}", app="vllm") for number in range(1, 6)))
    await cluster.create(service(("http", 8000)))
    await cluster.start_controllers(most=2)
    await shows(cluster, a1=READY, a2=READY, a3=READY, a4=READY, a5=READY)
    first = await recorder.list(SLICES)
    first.save("ports_list")
    watch = await recorder.watch(SLICES, first.version, 20)
    await cluster.patch("Service", "vllm", {"spec": service(("http", 8000), ("metrics", 9090))["spec"]})
    await watch.has(b'"name":"metrics"', 2)
    await cluster.kill("kube-controller-manager")
    (await watch.ended()).save("ports_watch")


async def record_moves(cluster: RealCluster) -> None:
    """Endpoints that another controller moves between slices, by two writes in either order."""
    recorder = Recorder(cluster, await cluster.prepare())
    each = {n: endpoint(f"p{n}", f"10.1.0.{n}") for n in range(1, 5)}
    for made in each.values():
        made["nodeName"] = NODE

    def part(name: str, *numbers: int) -> Json:
        return written(endpoint_slice(name, [each[n] for n in numbers], ports=[port()]))

    await cluster.create(part("a", 1, 2), part("b", 3))
    first = await recorder.list(SLICES)
    first.save("moves_list")
    watch = await recorder.watch(SLICES, first.version, 10)
    for made in (part("b", 2, 3), part("a", 1), part("a"), part("b", 2, 3, 1), part("b", 2, 3, 1, 4)):
        await cluster.replace(made)
    await cluster.delete("EndpointSlice", "a")
    (await watch.ended()).save("moves_watch")


def written(part: Json) -> Json:
    """Return a slice as it is written: some fields are the API server's own."""
    for name in ("uid", "creationTimestamp", "generation", "generateName", "ownerReferences", "managedFields"):
        part["metadata"].pop(name)
    part["endpoints"] = part["endpoints"] or []
    return part


async def record_odd(cluster: RealCluster) -> None:
    """Slices with what may be left out, and of other kinds of addresses."""
    recorder = Recorder(cluster, await cluster.prepare())
    nothing: dict[str, bool | None] = {"ready": None, "serving": None, "terminating": None}
    states: list[dict[str, bool | None]] = [
        {},
        nothing,
        {**nothing, "ready": True},
        {**nothing, "ready": False},
        {**nothing, "serving": False},
        {**nothing, "terminating": True},
        {"ready": False, "serving": True, "terminating": True},
        {"ready": False, "serving": None, "terminating": True},
        {"ready": False, "serving": True, "terminating": None},
    ]
    v4 = [endpoint(f"p{n}", f"10.1.0.{n}", **given) for n, given in enumerate(states, 1)]
    v4[0].pop("conditions")
    v4 += [endpoint(None, "10.1.0.20")]
    v6 = [endpoint("p1", "fd00:1::1"), endpoint("p21", "fd00:1::21"), endpoint(None, "fd00:1::20")]
    names = [endpoint(None, "engine.example")]
    parts = [
        endpoint_slice("v4", v4, ports=[port()]),
        endpoint_slice("v6", v6, ports=[port()], family="IPv6"),
        endpoint_slice("names", names, ports=[port()], family="FQDN"),
        endpoint_slice("empty", None, ports=[port()]),
        endpoint_slice("udp", [endpoint("p30", "10.1.0.30")], ports=[port(protocol="UDP")]),
        endpoint_slice("open", [endpoint("p31", "10.1.0.31")], ports=[port(None, "other")]),
        endpoint_slice("none", [endpoint("p32", "10.1.0.32")], ports=[]),
    ]
    for part in parts:
        for each in part["endpoints"] or ():
            each.pop("nodeName")
            if part["addressType"] == "FQDN":
                each.pop("zone")
    await cluster.create(*map(written, parts))
    (await recorder.list(SLICES)).save("odd_list")


async def record_pool(cluster: RealCluster) -> None:
    """An InferencePool whose spec changes, and its pods."""
    token = await cluster.prepare()
    recorder = Recorder(cluster, token)
    (await recorder.list(POOL)).save("crd_missing")
    await cluster.create_crd()
    pool = inference_pool("llama", 8000, labels={"app": "llama"})
    pool["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/name": "llama-epp"}
    del pool["status"]
    one, two = (f"llama-7768647bf9-{number}" for number in (1, 2))
    await cluster.create(pool, made_pod(one, "10.2.0.1", app="llama"))
    pools, pods = await recorder.list(POOL), await recorder.list(PODS)
    pools.save("pool_list")
    pods.save("pods_list")
    watches = [await recorder.watch(POOL, pools.version, 135), await recorder.watch(PODS, pods.version, 135)]
    await cluster.patch("InferencePool", "llama", {"metadata": {"annotations": {"serving.example/note": "tried"}}})
    await cluster.patch("InferencePool", "llama", {"spec": {"targetPorts": [{"number": 8000}, {"number": 8001}]}})
    await cluster.create(made_pod(two, None, app="llama", ready=False))
    await set_ready(cluster, two, "10.2.0.2", ready=False)
    await set_ready(cluster, two, "10.2.0.2", ready=True)
    await watches[1].has(BOOKMARK)
    await cluster.delete("Pod", one, 60)
    await set_ready(cluster, one, "10.2.0.1", ready=False)
    await cluster.delete("Pod", one, 0)
    for watch, name in zip(watches, ("pool_watch", "pods_watch"), strict=True):
        (await watch.ended()).save(name)
    await cluster.create(made_pod("qwen-1", "10.2.0.3", app="qwen"))
    pools = await recorder.list(POOL)
    pools.save("pool_list_later")
    (await recorder.list(pods_with("app=qwen", "serving"))).save("pods_list_other")
    watch = await recorder.watch(POOL, pools.version, 20)
    await cluster.patch("InferencePool", "llama", {"spec": {"selector": {"matchLabels": {"app": "qwen"}}}})
    await cluster.patch("InferencePool", "llama", {"spec": {"targetPorts": [{"number": 8002}]}})
    await cluster.delete("InferencePool", "llama")
    pool["spec"]["selector"]["matchLabels"] = {"app": "qwen"}
    await cluster.create(pool)
    (await watch.ended()).save("pool_changes_watch")
    (await recorder.list(POOL)).save("pool_list_again")


async def record_refusals(cluster: RealCluster) -> None:
    """What is answered to those who may not ask, or ask too much."""
    token = await cluster.prepare()
    recorder = Recorder(cluster, token)
    (await Recorder(cluster, token[:-9] + "AAAAAAAAA").list(SLICES)).save("unauthorized")
    (await recorder.list(slices_of("vllm", "default"))).save("forbidden")
    (await (await recorder.watch(slices_of("vllm", "default"), "1", 60)).ended()).save("forbidden_watch")
    newest = str(10**12)
    late = {"resourceVersion": newest, "resourceVersionMatch": "NotOlderThan"}
    (await recorder.list(SLICES, **late)).save("too_large")
    await cluster.kill()
    most = {"max_requests_inflight": "1", "enable_priority_and_fairness": "false"}
    await cluster.start_api_server(**most)
    for _ in range(100):
        for answer in await asyncio.gather(*(recorder.list(SLICES) for _ in range(30))):
            if b" 429 " in answer.head:
                answer.save("too_many")
                return
    raise RuntimeError("no request was too many")


async def record_restarts(cluster: RealCluster) -> None:
    """An API server that is told to end, and one that is killed amid watches; and what it says until it is ready."""
    recorder = Recorder(cluster, await cluster.prepare(crd=True))
    part = written(endpoint_slice("vllm-a", [endpoint("p1", "10.1.0.1")], ports=[port()]))
    pool = inference_pool("llama", 8000, labels={"app": "llama"})
    del pool["status"]
    await cluster.create(part, pool)
    seen: dict[tuple[str, bytes], Recording] = {}
    for name, stop in (("ended", cluster.end), ("killed", cluster.kill)):
        first = await recorder.list(SLICES)
        watch = await recorder.watch(SLICES, first.version, 60)
        part["endpoints"].append(endpoint(f"p-{name}", f"10.1.0.{len(part['endpoints']) + 1}"))
        await cluster.replace(part)
        await watch.has(b"\n")
        await stop()
        first.save(f"{name}_list")
        (await watch.ended()).save(f"{name}_watch")
        await cluster.launch_api_server()
        while not await cluster.is_ready():
            for collection in (SLICES, POOL):
                with suppress(OSError):
                    answer = await recorder.list(collection)
                    if answer.head and b" 200 " not in answer.head.splitlines()[0]:
                        seen.setdefault((collection.plural, answer.head.splitlines()[0]), answer)
    for number, ((plural, _), answer) in enumerate(sorted(seen.items(), key=lambda item: item[0])):
        answer.save(f"starting_{plural}_{number}")


async def record_many(cluster: RealCluster) -> None:
    """Five hundred pods of a Service that come, go and flap; a quarter of them is in an InferencePool, too."""
    recorder = Recorder(cluster, await cluster.prepare())
    rng = random.Random(7)
    states = dict.fromkeys(range(500), "ready")
    turn = asyncio.Semaphore(16)

    def address(number: int) -> str:
        return f"10.1.{number // 250}.{number % 250 + 1}"

    def one(number: int) -> Json:
        return made_pod(f"p{number}", address(number), app="vllm", pool="" if number % 4 else "llama")

    async def become(number: int, state: str) -> None:
        async with turn:
            states[number] = state
            match state:
                case "ready" | "unready":
                    await set_ready(cluster, f"p{number}", address(number), ready=state == "ready")
                case "terminating":
                    await cluster.delete("Pod", f"p{number}", 60)
                case "absent":
                    await cluster.delete("Pod", f"p{number}", 0)
                case "new":
                    states[number] = "ready"
                    await cluster.create(one(number))

    async def flap(rounds: int) -> None:
        following = {"ready": ["unready", "terminating"], "unready": ["ready"], "terminating": ["absent"]}
        for _ in range(rounds):
            chosen = rng.sample(range(100, 600), 50)
            steps = [(n, rng.choice(following.get(states.get(n, "absent"), ["new"]))) for n in chosen]
            await asyncio.gather(*(become(number, state) for number, state in steps))
            await asyncio.sleep(1)

    async def come(number: int) -> None:
        async with turn:
            await cluster.create(one(number))

    await asyncio.gather(*(come(number) for number in range(100)))
    await cluster.create(service(("http", 8000)))
    await cluster.start_controllers(period="1s")

    async def settled() -> bool:
        found = await listed(cluster)
        return {each: state[1:] for each, state in found.items()} == {
            address(n): {"ready": READY, "unready": UNREADY, "terminating": LEAVING}[state]
            for n, state in states.items()
            if state != "absent"
        }

    for number in range(100, 500):
        del states[number]
    await until(settled)
    many: dict[str, Collection[Any]] = {"slices": SLICES, "pods": pods_with("pool=llama", "serving")}
    watches = {}
    for name, collection in many.items():
        first = await recorder.list(collection)
        first.save(f"many_{name}_list", packed=True)
        watches[name] = await recorder.watch(collection, first.version, 600)
    states |= dict.fromkeys(range(100, 500), "ready")
    await asyncio.gather(*(come(number) for number in range(100, 500)))
    await until(settled)
    await flap(8)
    await until(settled)
    for name, collection in many.items():
        await recorder.save_pages(collection, f"many_{name}_list_later")
        watches[name].save(f"many_{name}_watch", packed=True)


SCENARIOS: Final[dict[str, Callable[[RealCluster], Awaitable[None]]]] = {
    "slices": record_slices,
    "expired": record_expired,
    "ports": record_ports,
    "moves": record_moves,
    "odd": record_odd,
    "pool": record_pool,
    "refusals": record_refusals,
    "restarts": record_restarts,
    "many": record_many,
}


async def record(names: list[str]) -> None:
    where = programs()
    if where is None:
        raise SystemExit("TIDEGATE_KUBERNETES names no folder with the programs")
    for name in names or SCENARIOS:
        sys.stdout.write(f"== {name}\n")
        with tempfile.TemporaryDirectory() as folder:
            async with real_cluster(where, Path(folder)) as cluster:
                await SCENARIOS[name](cluster)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenarios", nargs="*", help=", ".join(SCENARIOS))
    asyncio.run(record(parser.parse_args().scenarios))
