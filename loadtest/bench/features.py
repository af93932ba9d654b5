"""What each feature of the gateway costs a request: tidegate alone, set up in several ways, one after the other.

`python -m loadtest.bench.features`; REPS and WIN as for the whole bench.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from loadtest.bench import measure, peers
from loadtest.bench.__main__ import plan, two_cores
from loadtest.bench.gateways import ALL_SLIS, TENANT
from loadtest.bench.report import number
from loadtest.bench.summary import cpu_us

LOADS = (measure.PLAIN, measure.ONE_CHUNK)


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
_VERSIONS = {"v1": {"pools": ["pool-0"]}, "v2": {"pools": ["pool-1"]}}
FEATURES = (
    BASE,
    Feature("without the access log", options=("--no-access-log",)),
    Feature("four backends to choose from", backends=4),
    Feature("a key, a tenant and its quota", more={"tenants": {"one": TENANT}}),
    Feature("half of all requests wait in the queue", backend={"max_concurrency": 16}),
    Feature("burn rates of all five SLIs, not three", {"objective": "all"}, more={"objectives": {"all": ALL_SLIS}}),
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


def _measured(bench: measure.Bench, feature: Feature) -> tuple[float, ...]:
    """Return the CPU of a request in microseconds, by kind of load."""
    folder = bench.folder / feature.title.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    traces = ("--otlp-endpoint", bench.world.collector) if "--trace-ratio" in feature.options else ()
    options = (*feature.options, *traces)
    port = peers.free_port()
    argv = peers.tidegate(port, folder, feature.routes(bench.world.engines), *options)
    with measure.gateway(bench, folder, argv, port) as target:
        measure.warm_up(bench, target)
        return tuple(cpu_us(measure.repeated(bench, target, load), "win_done") for load in LOADS)


def main() -> None:
    what, folder = plan(quick="--quick" in sys.argv), Path("out/bench/features").resolve()
    say = partial(print, file=sys.stderr, flush=True)
    with measure.bench_of(*two_cores(), folder, what, say) as bench:
        measured = partial(_measured, bench)
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
