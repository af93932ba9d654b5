"""What is wrong with an engine, from what it answered: findings, and how to fix them. No network here."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from math import inf

from gateway.rules.engine import EngineHistogram, Needed, nearest

_CLOSE = 1
_FAMILY = re.compile(r"^(vllm:[a-z0-9_]+)(?:\{|[ \t])", re.MULTILINE)
_BUCKET = re.compile(r"^(vllm:[a-z0-9_]+)_bucket\{([^}\n]*)\}", re.MULTILINE)
_MODEL = re.compile(r'model_name="((?:[^"\\]|\\.)*)"')
_LE = re.compile(r'(?:^|,)\s*le="([^"]+)"')
GAUGES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "requests running": (
        ("vllm:num_requests_running",),
        "the gateway has only its own counts to tell how busy the engine is",
    ),
    "requests waiting": (("vllm:num_requests_waiting",), "the gateway cannot see when requests queue in the engine"),
    "KV cache usage": (
        ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "the gateway cannot see when the KV cache is full",
    ),
    "KV cache size": (("vllm:cache_config_info",), "limits in KV tokens have to be configured"),
    "preemptions": (("vllm:num_preemptions_total",), "the gateway cannot see preemptions"),
    "prefix cache": (
        ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        "the gateway cannot see hits of the prefix cache",
    ),
}
"""What the gateway reads from engines, under new and old names, and what is lost without."""


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at, and in `hint` how to fix it."""

    level: Level
    what: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """What an engine answered; `unreachable` says why when it did not answer at all.

    `rejected` is the status with which /v1/models rejected the gateway's key, or 0.
    """

    unreachable: str = ""
    health: int = 0
    rejected: int = 0
    version: str | None = None
    models: frozenset[str] | None = None
    metrics: str | None = None


def examine(answers: Answers, served_models: Sequence[str], needed: Iterable[Needed]) -> Iterator[Finding]:
    """Return what is found in an engine's answers; it must serve `served_models`, and rules want `needed` of it."""
    if answers.unreachable:
        yield Finding(
            Level.PROBLEM,
            f"cannot be reached: {answers.unreachable}",
            "check that it is running and that the URL is right",
        )
        return
    if answers.health >= 500:
        yield Finding(Level.PROBLEM, f"/health answers {answers.health}", "its log says why it is not ready")
    else:
        version = f", version {answers.version}" if answers.version else ""
        yield Finding(Level.OK, f"answers{version}")
    if answers.rejected:
        hint = "set `api_key` of this backend in the routes to the engine's --api-key (docs/routes.md)"
        yield Finding(Level.PROBLEM, f"/v1/models answers {answers.rejected}", hint)
    else:
        yield from _models(answers.models, served_models)
    if answers.metrics is None or "vllm:" not in answers.metrics:
        hint = "without them the gateway has only its own counts; vLLM shows them unless --disable-log-stats is set"
        yield Finding(Level.WARNING, "no vLLM metrics at /metrics", hint)
        return
    yield from _gauges(set(_FAMILY.findall(answers.metrics)))
    yield from _buckets(answers.metrics, needed)


def _models(listed: frozenset[str] | None, served_models: Sequence[str]) -> Iterator[Finding]:
    if listed is None:
        yield Finding(
            Level.WARNING,
            "/v1/models has no list of models",
            "the first request will show whether it serves the right model",
        )
        return
    for name in served_models:
        if name in listed:
            yield Finding(Level.OK, f"serves {name}")
            continue
        close = get_close_matches(name, listed, n=_CLOSE)
        meant = f"did you mean `{close[0]}`? " if close else ""
        known = ", ".join(sorted(listed))
        hint = f"{meant}set `served_model` to one of {known}, or start it with --served-model-name {name}"
        yield Finding(Level.PROBLEM, f"does not serve {name}", hint)


def _gauges(families: set[str]) -> Iterator[Finding]:
    for what, (names, lost) in GAUGES.items():
        found = next((name for name in names if name in families), None)
        if found is None:
            yield Finding(Level.WARNING, f"{what}: no {names[0]}", lost)
        else:
            old = ", its old name" if found != names[0] else ""
            yield Finding(Level.OK, f"{what}: {found}{old}")


def _buckets(metrics: str, needed: Iterable[Needed]) -> Iterator[Finding]:
    """Rules from engines' histograms stand and fall with the exact bound of the threshold."""
    bounds: dict[str, set[float]] = {}
    models: dict[str, set[str]] = {}
    for name, labels in _BUCKET.findall(metrics):
        le, model = _LE.search(labels), _MODEL.search(labels)
        if le is not None:
            bounds.setdefault(name, set()).add(_seconds(le[1]))
        if model is not None:
            models.setdefault(name, set()).add(model[1])
    for each in needed:
        yield _bucket(each, bounds, models)


def _seconds(le: str) -> float:
    """Return a bound; what is no number is as good as none."""
    try:
        return float(le)
    except ValueError:
        return inf


def _bucket(needed: Needed, bounds: Mapping[str, set[float]], models: Mapping[str, set[str]]) -> Finding:
    histogram: EngineHistogram = needed.histogram
    what = f"{needed.sli} of {needed.model} under {needed.le:g}s"
    name = histogram.name if histogram.name in bounds else histogram.old_name
    if name not in bounds:
        hint = "rules from engine metrics cannot check it; rules from the gateway's metrics can"
        return Finding(Level.WARNING, f"{what}: no histogram {histogram.name}", hint)
    if needed.le not in bounds[name]:
        near = nearest(bounds[name], needed.le)
        hint = f"only rules from engine metrics need it: set the threshold to {near}, or use the gateway's metrics"
        return Finding(Level.WARNING, f'{what}: {name} has no bucket le="{needed.le!r}"', hint)
    if needed.served_model not in models.get(name, set()):
        listed = ", ".join(sorted(models.get(name, set())))
        return Finding(
            Level.WARNING, f"{what}: {name} has no model_name {needed.served_model}", f"its metrics name {listed}"
        )
    if name != histogram.name:
        hint = f"`tidegate rules --source engine` writes {histogram.name}, its name in newer releases"
        return Finding(Level.WARNING, f"{what}: it is called {name}", hint)
    return Finding(Level.OK, f'{what}: {name} has le="{needed.le!r}"')
