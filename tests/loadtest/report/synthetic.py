"""Recordings of runs that never were, yet look like some that could have been."""

from collections import Counter
from random import Random
from typing import Any

from loadtest.report.recording import (
    CUT,
    FAILED,
    OK,
    REFUSED,
    About,
    Event,
    Recording,
    Request,
    Sample,
    rounded,
)

SECONDS = 120
FAULT, HEALED = 40.0, 70.0
BACKENDS = ("gpu-0", "gpu-1", "cpu-0")
EVENTS = (
    Event(FAULT, "gpu-1 slowed 5 times"),
    Event(HEALED, "gpu-1 healed"),
    Event(80.0, "canary 5 %"),
    Event(95.0, "canary 25 %"),
    Event(110.0, "canary 100 %"),
)


def about(**changes: Any) -> About:
    """What is told of a run that never was."""
    told: dict[str, Any] = {
        "title": "A slow engine, and a canary",
        "command": "python -m loadtest.somewhere --seed 7 \\\n  --rate 20",
        "seed": 7,
        "seconds": float(SECONDS),
        "events": EVENTS,
        "notes": ("Clients and gateway share this machine.",),
        "versions": {"tidegate": "0.1.0", "python": "3.11"},
        "machine": {"cores": "2", "cpu": "a processor"},
    }
    return About(**{**told, **changes})


def request(rng: Random, at: float, name: str, gateway: str = "", heed: float = 1.0) -> Request:
    """One request; a gateway that pays no `heed` to a sick backend keeps sending to it."""
    sick = FAULT <= at < HEALED
    weights = (1.0, 1.0 if not sick else 1.0 - 0.95 * heed, 0.4)
    backend = rng.choices(BACKENDS, weights)[0]
    slow = 5.0 if sick and backend == "gpu-1" else 1.0
    ttft = slow * rng.lognormvariate(-2.3, 0.5)
    tpot = slow * rng.lognormvariate(-4.2, 0.2)
    tokens = rng.randint(20, 200)
    outcome = rng.choices((OK, FAILED, CUT, REFUSED), (200, 1, 1, 6 if sick else 1))[0]
    status = {FAILED: 502, REFUSED: 429}.get(outcome, 200)
    streamed = outcome in (OK, CUT) and name != "embed"
    e2e = ttft + (tokens * tpot if streamed else 0.0)
    version = "v2" if rng.random() < max(0.0, at - 75) / 60 else "v1"
    return Request(
        at,
        name,
        gateway,
        status=status,
        outcome=outcome,
        backend=backend if status == 200 else "",
        version=version if status == 200 else "",
        output_tokens=tokens if streamed else 0,
        ttft=ttft if streamed else None,
        tpot=tpot if streamed else None,
        e2e=e2e,
    )


def one_gateway(seed: int = 7, rate: float = 20.0) -> Recording:
    """A run of one gateway with three kinds of requests, gaps and what the gateway told."""
    rng = Random(seed)
    times = [index / rate for index in range(int(SECONDS * rate))]
    requests = [request(rng, at, rng.choice(("chat", "chat", "batch", "embed"))) for at in times]
    gaps: Counter[tuple[int, float]] = Counter()
    for each in requests:
        if each.tpot is not None:
            gaps.update((int(each.at) + step, rounded(each.tpot * rng.uniform(0.5, 2.0))) for step in range(3))
    series = []
    for second in range(SECONDS):
        sick = FAULT <= second < HEALED
        series += [Sample(second, "burn", name, 30.0 * (sick and name == "gpu-1") + rng.random()) for name in BACKENDS]
        series.append(Sample(second, "in_flight", "", 20 + 10 * sick + rng.random()))
        series.append(Sample(second, "queue", "", 5.0 * sick))
    return Recording(about(), requests, gaps, series)


def several_gateways(count: int = 9, seed: int = 7, rate: float = 8.0) -> Recording:
    """The same scenario played through several gateways."""
    rng = Random(seed)
    requests = [
        request(rng, index / rate, "chat", f"gateway-{number}", heed=1.0 - number / count)
        for number in range(count)
        for index in range(int(SECONDS * rate))
    ]
    return Recording(about(title="One scenario, many gateways"), requests)
