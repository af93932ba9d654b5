"""What each feature of the gateway costs a request: tidegate alone, set up in several ways, one after the other.

`python -m loadtest.bench.features`; REPS and WIN as for the whole bench.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from loadtest.bench import measure, peers
from loadtest.bench.__main__ import plan, two_cores
from loadtest.bench.report import number
from loadtest.bench.summary import cpu_us

LOADS = (measure.PLAIN, measure.ONE_CHUNK)
_PROMISE = {"target": 99, "under": "2s"}


@dataclass(frozen=True, slots=True)
class Feature:
    """One way to set the gateway up: what its routes say of so many engines, and its options."""

    title: str
    model: Mapping[str, Any] = field(default_factory=dict)
    backend: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    backends: int = 1
    pools: int = 1
    options: tuple[str, ...] = ()

    def routes(self, ports: Sequence[int]) -> dict[str, Any]:
        """Return the routes to as many of the engines as are wanted."""
        names = [f"pool-{number}" for number in range(self.pools)]
        engines = [{"url": f"http://127.0.0.1:{port}", **self.backend} for port in ports[: self.backends]]
        pools = {name: {"backends": engines[place :: self.pools]} for place, name in enumerate(names)}
        model = {"versions": {"v1": {"pools": names}}, **self.model}
        return {"pools": pools, "models": {peers.MODEL: model}, **self.more}


BASE = Feature("one backend, access log on")
_TENANT = {"key_sha256": sha256(peers.KEY.encode()).hexdigest(), "limits": {"tokens_per_minute": 10**12}}
_VERSIONS = {"v1": {"pools": ["pool-0"]}, "v2": {"pools": ["pool-1"]}}
FEATURES = (
    BASE,
    Feature("without the access log", options=("--no-access-log",)),
    Feature("four backends to choose from", backends=4),
    Feature("a key, a tenant and its quota", more={"tenants": {"one": _TENANT}}),
    Feature("half of all requests wait in the queue", backend={"max_concurrency": 16}),
    Feature(
        "burn rates of all five SLIs, not three",
        {"objective": "all"},
        more={
            "objectives": {
                "all": {"availability": {"target": 99.9}, **dict.fromkeys(("ttft", "tpot", "itl", "e2e"), _PROMISE)}
            }
        },
    ),
    Feature(
        "two pools by rule",
        {"rules": [{"when": {"prompt_tokens": "<16"}, "use": ["pool-1"]}, {"use": ["pool-0", "pool-1"]}]},
        backends=2,
        pools=2,
    ),
    Feature("a split of 95 to 5", {"versions": _VERSIONS, "split": {"v1": 95, "v2": 5}}, backends=2, pools=2),
    Feature("traces of one request in a hundred", options=("--trace-ratio", "0.01")),
    Feature("traces of every request", options=("--trace-ratio", "1")),
)


class _Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _collector() -> Iterator[str]:
    """Run an OTLP collector that forgets what it is sent."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _engines(bench: measure.Bench) -> Iterator[list[int]]:
    """Run more engines beside the bench's own, as many as any feature needs in all; gives their ports."""
    ports = [bench.backend]
    with ExitStack() as stack:
        while len(ports) < max(feature.backends for feature in FEATURES):
            port, logs = peers.free_port(), bench.folder / f"engine-{len(ports)}"
            process = stack.enter_context(measure.mock(port, bench.load_core, logs))
            peers.wait_until_it_answers(process, port, logs)
            ports.append(port)
        yield ports


def _measured(bench: measure.Bench, feature: Feature, ports: Sequence[int], collector: str) -> tuple[float, ...]:
    """Return the CPU of a request in microseconds, by kind of load."""
    folder = bench.folder / feature.title.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    options = [*feature.options, *(("--otlp-endpoint", collector) if "--trace-ratio" in feature.options else ())]
    port = peers.free_port()
    with measure.gateway(bench, folder, peers.tidegate(port, folder, feature.routes(ports), *options), port) as target:
        measure.warm_up(bench, target)
        return tuple(cpu_us(measure.repeated(bench, target, load), "win_done") for load in LOADS)


def main() -> None:
    what, folder = plan(quick="--quick" in sys.argv), Path("out/bench/features").resolve()
    say = partial(print, file=sys.stderr, flush=True)
    with (
        _collector() as collector,
        measure.engine(*two_cores(), folder, what, say) as bench,
        _engines(bench) as ports,
    ):
        measured = partial(_measured, bench, ports=ports, collector=collector)
        base = measured(BASE)
        print("| | plain request, us | more | 1-chunk stream, us | more |\n| --- | ---: | ---: | ---: | ---: |")
        for feature in FEATURES:
            found = base if feature is BASE else measured(feature)
            cells = [cell for now, then in zip(found, base, strict=True) for cell in _cells(now, then)]
            print(f"| {feature.title} | {' | '.join(cells)} |", flush=True)
        again = measured(BASE)
        drift = ", ".join(f"{now - then:+.1f}" for now, then in zip(again, base, strict=True))
        print(f"\nThe first row measured again at the end: {drift} us; differences below that say nothing.")


def _cells(now: float, then: float) -> tuple[str, str]:
    return number(now), f"{now - then:+.1f}" if now != then else ""


if __name__ == "__main__":
    main()
