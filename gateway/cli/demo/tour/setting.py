"""What the tour runs on: engines, route file and load that make each step quick, and leave the machine mostly idle."""

from collections.abc import Mapping
from random import Random
from typing import Any

from gateway.cli.demo.load import MODEL, prompt
from gateway.cli.demo.setting import NEXT, Setting

STABLE, CANDIDATE = "v1", "v2"
OBJECTIVE = "interactive"
TARGET = 99.0
UNDER = 1.0
SLOTS = 8
"""Requests that an engine of v1 may have at once: so few that a light load is too much for three of them."""
_RATE = 16.0
BATCH_RATE = 12.0


def routes_of(urls: Mapping[str, list[str]]) -> dict[str, object]:
    """Return the route file: v1 on the pool `gpu`, and v2 on `next`, whose rollout begins when the tour asks for it.

    A first step of 25 %, short holds and `margin: 2` make a rollout take half a minute at 16 requests/s. It is decided
    as every other.
    """
    canary = {
        "stable": STABLE,
        "candidate": CANDIDATE,
        "steps": [25, 50],
        "hold": "5s",
        "last_hold": "5s",
        "margin": 2,
        "warm_up": 5,
        "warm_up_time": "2s",
        "start": "manual",
    }
    versions = {
        version: {"pools": [pool], "served_model": MODEL} for version, pool in ((STABLE, "gpu"), (CANDIDATE, NEXT))
    }
    slots = {"gpu": SLOTS, NEXT: SLOTS * len(urls["gpu"])}
    return {
        "pools": {
            pool: {"accelerator": "gpu", "backends": [{"url": url, "max_concurrency": slots[pool]} for url in backends]}
            for pool, backends in urls.items()
        },
        "objectives": {
            OBJECTIVE: {"availability": {"target": TARGET}, "ttft": {"target": TARGET, "under": f"{UNDER:g}s"}},
            "offline": {"availability": {"target": 95}},
        },
        "classes": {"batch": {"priority": 20, "max_queue_wait": "5s", "sheddable": True}},
        "models": {
            MODEL: {
                "aliases": ["gpt-4o-mini"],
                "objective": {"default": OBJECTIVE, "batch": "offline"},
                "versions": versions,
                "canary": canary,
            }
        },
    }


def interactive(rng: Random) -> tuple[str, dict[str, Any]]:
    """Return a streamed chat with a short answer."""
    return _chat(rng, max_tokens=rng.choice((8, 16, 24)), stream=True)


def batch(rng: Random) -> tuple[str, dict[str, Any]]:
    """Return a chat with a long answer in one piece, which holds a slot for about three seconds."""
    return _chat(rng, max_tokens=256, stream=False, ignore_eos=True)


def _chat(rng: Random, **options: object) -> tuple[str, dict[str, Any]]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": prompt(rng)}], **options}
    return "/v1/chat/completions", body


TOUR = Setting({"gpu": ("gpu", "gpu", "gpu"), NEXT: ("gpu",)}, routes_of, _RATE)
