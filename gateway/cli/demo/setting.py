"""What a demo consists of: engines by pool, their route file, and how much load there is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from gateway.cli.demo.load import MODEL
from gateway.policy.canary.words import counted

_POOLS = ("gpu", "cpu")
_PRICES = MappingProxyType({"gpu": 2.5, "cpu": 0.2})
NEXT = "next"
"""The pool of the candidate of `--canary`."""
CANARY: Mapping[str, object] = MappingProxyType(
    {
        "stable": "v1",
        "candidate": "v2",
        "steps": [10, 50],
        "hold": "15s",
        "last_hold": "30s",
        "warm_up_time": "5s",
    }
)
"""A rollout that one can watch: minutes, where the defaults take more than an hour."""
OBJECTIVE: Mapping[str, object] = MappingProxyType(
    {
        "availability": {"target": 99},
        "ttft": {"target": 99, "under": "2s"},
        "tpot": {"target": 99, "under": "200ms"},
    }
)
"""What that rollout is judged by: a target of 99 % takes a tenth of the requests that one of 99.9 % does."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The profile of each engine by pool, the route file for their URLs, and requests per second."""

    pools: Mapping[str, tuple[str, ...]]
    routes: Callable[[Mapping[str, list[str]]], dict[str, object]]
    rate: float

    @property
    def words(self) -> str:
        """How many engines of which kind there are."""
        profiles = [profile for engines in self.pools.values() for profile in engines]
        kinds = [counted(profiles.count(kind), f"{kind.upper()} engine") for kind in dict.fromkeys(profiles)]
        return f"{', '.join(kinds)}, all simulated"


def routes_of(urls: Mapping[str, list[str]]) -> dict[str, object]:
    """Return the route file of engines by pool; with a pool `next` there is a rollout of v2, which that pool serves."""
    pools = {
        name: {
            "accelerator": "gpu" if name == NEXT else name,
            "cost_per_hour": _PRICES["gpu" if name == NEXT else name],
            "backends": backends,
        }
        for name, backends in urls.items()
    }
    versions = {"v1": {"pools": [*_POOLS], "served_model": MODEL}}
    rules: list[dict[str, object]] = [
        {"when": {"prompt_tokens": "<256", "max_tokens": "<=16"}, "use": ["cpu", "gpu"]},
        {"use": ["gpu", "cpu"]},
    ]
    model: dict[str, object] = {"aliases": ["gpt-4o-mini"], "versions": versions}
    if NEXT not in urls:
        return {"pools": pools, "models": {MODEL: {**model, "rules": rules}}}
    versions["v2"] = {"pools": [NEXT], "served_model": MODEL}
    for rule in rules:
        rule["use"] = [*cast(list[str], rule["use"]), NEXT]
    model |= {"objective": "demo", "canary": {**CANARY}, "rules": rules}
    return {"pools": pools, "objectives": {"demo": {**OBJECTIVE}}, "models": {MODEL: model}}


PLAIN = Setting({"gpu": ("gpu", "gpu"), "cpu": ("cpu",)}, routes_of, 6.0)
ROLLOUT = Setting({**PLAIN.pools, NEXT: ("gpu",)}, routes_of, 12.0)
