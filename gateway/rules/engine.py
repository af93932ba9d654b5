"""The same rules from the engines' own histograms, for those who have nothing else.

An engine cannot see a request that never reached it, so availability is not among them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType

from gateway.config.table import RouteTable
from gateway.policy.slo.objective import Sli, Target
from gateway.rules.slo import Scale, Slo, one_of

_LONG = (1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, *_LONG)


@dataclass(frozen=True, slots=True)
class EngineHistogram:
    """A histogram of vLLM: its name, the name that older releases gave it ("" when the same), its bounds in seconds."""

    name: str
    old_name: str
    bounds: tuple[float, ...]


HISTOGRAMS: Mapping[Sli, EngineHistogram] = MappingProxyType(
    {
        Sli.TTFT: EngineHistogram(
            "vllm:time_to_first_token_seconds",
            "",
            (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, *_LONG, 160.0, 640.0, 2560.0),
        ),
        Sli.TPOT: EngineHistogram("vllm:request_time_per_output_token_seconds", "", _ITL),
        Sli.ITL: EngineHistogram("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds", _ITL),
        Sli.E2E: EngineHistogram(
            "vllm:e2e_request_latency_seconds",
            "",
            (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0),
        ),
    }
)
"""What vLLM 0.12 and later expose; `tidegate doctor` says what a given engine has."""


@dataclass(frozen=True, slots=True)
class EngineEvents:
    """Events counted in an engine's histogram: good is what fell into the buckets up to the threshold."""

    served_models: tuple[str, ...]
    histogram: str
    le: float

    @property
    def counters(self) -> str:
        """The selector of the counters that together count every event."""
        return f"{self.histogram}_count{{{self._labels}}}"

    def bad(self, function: str, window: str) -> str:
        """Return the query of what took longer than the threshold."""
        good = f'sum({function}({self.histogram}_bucket{{{self._labels}, le="{self.le!r}"}}[{window}]))'
        return f"({self.total(function, window)} - {good})"

    def total(self, function: str, window: str) -> str:
        """Return the query of everything observed."""
        return f"sum({function}({self.counters}[{window}]))"

    def worst(self, _: str) -> str:
        """Return nothing: engines are told apart by labels of Prometheus that only its configuration knows."""
        return ""

    @property
    def _labels(self) -> str:
        return one_of("model_name", self.served_models)


@dataclass(frozen=True, slots=True)
class Needed:
    """A bucket that rules for a model need of its engines."""

    model: str
    served_model: str
    histogram: EngineHistogram
    sli: Sli
    le: float


def engine_slos(table: RouteTable, runbook: str, scale: Scale) -> tuple[list[Slo], list[str]]:
    """Return the SLOs that engines' histograms can be held against, and in words what had to be left out."""
    found, left_out = [], []
    for model in table.models.values():
        for sli, target in model.objective.targets.items():
            why = _unfit(sli, target)
            if why:
                left_out.append(f"{model.name}: {why}")
            if sli not in HISTOGRAMS or target.under not in HISTOGRAMS[sli].bounds:
                continue
            names = tuple(dict.fromkeys(version.served_model for version in model.versions.values()))
            source = EngineEvents(names, HISTOGRAMS[sli].name, target.under)
            objective = model.objective
            found.append(
                Slo(model.name, objective.name, sli, target, objective.window, source, runbook=runbook, scale=scale)
            )
    return found, left_out


def needed_buckets(table: RouteTable) -> Iterator[Needed]:
    """Return every bucket that rules from engines' histograms need."""
    for model in table.models.values():
        for sli, target in model.objective.targets.items():
            if sli in HISTOGRAMS:
                for served in dict.fromkeys(version.served_model for version in model.versions.values()):
                    yield Needed(model.name, served, HISTOGRAMS[sli], sli, target.under)


def nearest(bounds: Iterable[float], seconds: float) -> str:
    """Return, in words, the bounds next to a threshold that is none."""
    ascending = sorted(bound for bound in bounds if isfinite(bound))
    around = [*(b for b in ascending if b < seconds)][-1:] + [*(b for b in ascending if b > seconds)][:1]
    return " or ".join(f"{bound:g}s" for bound in around)


def _unfit(sli: Sli, target: Target) -> str:
    if sli not in HISTOGRAMS:
        return f"{sli} cannot be seen by an engine: a request that never reached it is missing from its own metrics"
    histogram = HISTOGRAMS[sli]
    if target.under not in histogram.bounds:
        return (
            f"{sli} under {target.under:g}s has no bucket in {histogram.name}; the nearest are "
            f"{nearest(histogram.bounds, target.under)}"
        )
    if target.by_prompt_tokens:
        return f"{sli}: engines do not tell prompts apart by length, so {target.under:g}s is held against all of them"
    return ""
