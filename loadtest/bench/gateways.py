"""What is measured: how nginx, Tidegate in both its row sets, and other gateways are set up and started."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Any

from loadtest.bench import peers

INSTALLED = peers.ROOT / "out" / "peers" / "bin"
"""Where `make peers` installs the gateways that come from PyPI."""
ENGINES = 4
"""How many engines run: nginx and "off" have the first of them, all others have all."""
TENANT = {"key_sha256": sha256(peers.KEY.encode()).hexdigest(), "limits": {"tokens_per_minute": 10**12}}
_LATENCY = {"target": 99, "under": "2s"}
ALL_SLIS = {"availability": {"target": 99.9}, **dict.fromkeys(("ttft", "tpot", "itl", "e2e"), _LATENCY)}


@dataclass(frozen=True, slots=True)
class World:
    """What there is around a gateway: the ports of the engines, and the URL of a collector of traces."""

    engines: tuple[int, ...]
    collector: str


Start = Callable[[World, int, Path], list[str]]
"""Returns what starts a gateway on a port, once its files are in a folder."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway as it is measured."""

    name: str
    start: Start


def off(engine: int) -> dict[str, Any]:
    """Return routes with one model on one engine, and nothing more."""
    return {"models": {peers.MODEL: {"backends": [_url(engine)]}}}


def on(engines: Sequence[int]) -> dict[str, Any]:
    """Return routes with several backends to choose from, all five SLIs, and a tenant with a key and a quota."""
    return {
        "pools": {"gpu": {"backends": [_url(port) for port in engines]}},
        "objectives": {"all": ALL_SLIS},
        "tenants": {"one": TENANT},
        "models": {peers.MODEL: {"objective": "all", "versions": {"v1": {"pools": ["gpu"]}}}},
    }


def tidegate_off(program: Sequence[str] = ()) -> Start:
    """Return how Tidegate starts with one backend; `program` as for `peers.tidegate`."""

    def start(world: World, port: int, folder: Path) -> list[str]:
        return peers.tidegate(port, folder, off(world.engines[0]), program=program)

    return start


def tidegate_on(program: Sequence[str] = ()) -> Start:
    """Return how Tidegate starts with everything on: those routes, and traces of one request in a hundred."""

    def start(world: World, port: int, folder: Path) -> list[str]:
        traces = ("--trace-ratio", "0.01", "--otlp-endpoint", world.collector)
        return peers.tidegate(port, folder, on(world.engines), *traces, program=program)

    return start


def _nginx(world: World, port: int, folder: Path) -> list[str]:
    conf = _filled("nginx.conf", folder, port=port, backend=world.engines[0])
    return [peers.find_nginx(), "-p", f"{folder}/", "-c", str(conf), "-e", str(folder / "error.log")]


def _haproxy(world: World, port: int, folder: Path) -> list[str]:
    servers = "\n  ".join(f"server engine-{engine} 127.0.0.1:{engine}" for engine in world.engines)
    conf = _filled("haproxy.cfg", folder, port=port, servers=servers)
    return [peers.find_packaged("haproxy", "haproxy"), "-db", "-f", str(conf)]


def _envoy(world: World, port: int, folder: Path) -> list[str]:
    endpoints = (
        f"- endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {engine}}}}}}}"
        for engine in world.engines
    )
    conf = _filled("envoy.yaml", folder, port=port, endpoints="\n              ".join(endpoints))
    quiet = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]
    return [_installed("envoy"), "-c", str(conf), *quiet]


def _router(binary: str, *options: str) -> Start:
    def start(world: World, port: int, _folder: Path) -> list[str]:
        address = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(peers.free_port())]
        workers = [_url(engine) for engine in world.engines]
        return [_installed(binary), *options, *address, "--worker-urls", *workers]

    return start


def _url(engine: int) -> str:
    return f"http://127.0.0.1:{engine}"


def _filled(conf: str, folder: Path, **values: object) -> Path:
    path = folder / conf
    path.write_text(Template((peers.HERE / "conf" / conf).read_text()).substitute(values))
    return path


def _installed(binary: str) -> str:
    found = shutil.which(binary, path=os.pathsep.join([str(INSTALLED), os.environ.get("PATH", "")]))
    if found is None:
        raise SystemExit(f"{binary} is not installed: make peers")
    return found


NGINX, OFF, ON = "nginx", "off", "on"
ROUTERS = ("vllm-router", "sglang-router")
PEERS = (*ROUTERS, "HAProxy", "Envoy")
_STARTS: Mapping[str, Start] = {
    NGINX: _nginx,
    ON: tidegate_on(),
    OFF: tidegate_off(),
    "vllm-router": _router("vllm-router", "--log-level", "warning"),
    "sglang-router": _router("sglang-router", "launch", "--log-level", "warn"),
    "HAProxy": _haproxy,
    "Envoy": _envoy,
}
NAMES = tuple(_STARTS)


def gateway(name: str) -> Gateway:
    """Return the known gateway of a name."""
    return Gateway(name, _STARTS[name])
