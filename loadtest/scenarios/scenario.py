"""Scenario files: engines, load, faults with their times, and the objective."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.config.durations import parse_threshold
from gateway.sim.faults import Faults
from loadtest.report.recording import Objective

FOLDER = Path(__file__).parent

Range = tuple[int, int]
Duration = Annotated[float, BeforeValidator(parse_threshold)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineGroup(_Part):
    """Engines alike. `share` is the part of the load that gateways with weights should send there.

    `pool` is their pool in Tidegate; without it, one by the name of the group.
    """

    count: int = Field(ge=1, le=16)
    profile: Literal["gpu", "cpu"] = "gpu"
    engine: dict[str, float] = {}
    cost_per_hour: float = Field(default=2.5, gt=0)
    share: float = Field(default=1.0, gt=0, le=1)
    pool: str = ""


class Stream(_Part):
    """Requests that come at random at `rate` a second, from `start` to `until` (s); lengths are drawn log-uniformly.

    With `trace_speed` they come as in the trace of a code assistant, so many times faster; lengths are the trace's,
    within the ranges. Only requests of `judged` streams count in the verdict.
    """

    name: str
    rate: float = Field(default=0.0, ge=0)
    trace_speed: float = Field(default=0.0, ge=0)
    start: float = 0.0
    until: float | None = None
    prompt_tokens: Range
    output_tokens: Range
    service_class: str = ""
    tenant: str = ""
    sessions: int = 0
    judged: bool = True

    @model_validator(mode="after")
    def _comes_somehow(self) -> "Stream":
        if bool(self.rate) == bool(self.trace_speed):
            raise ValueError("give either rate or trace_speed, above 0")
        return self


class Fault(_Part):
    """What is wrong with these engines from `at` to `until` (s)."""

    at: float
    until: float
    engines: tuple[str, ...]
    faults: Annotated[dict[str, Any], Field(alias="set")]
    label: str

    @model_validator(mode="after")
    def _known(self) -> "Fault":
        Faults.model_validate(self.faults)
        return self


class ScenarioObjective(_Part):
    """The thresholds that a request has to meet, and the targets in per cent."""

    ttft: Duration
    tpot: Duration
    long_prompts: dict[int, Duration] = {}
    availability: float = 99.9
    target: float = 99.0

    def as_recorded(self) -> Objective:
        """Return the same as the report wants it."""
        return Objective(
            self.availability, self.ttft, self.target, self.tpot, self.target, tuple(sorted(self.long_prompts.items()))
        )


class Scenario(_Part):
    """One scenario. The verdict is over requests due from `judged[0]` to `judged[1]`; a fault begins at `fault_at`.

    `aims` are the least factors by which the gateway must miss less than the best peer, or than round robin.
    `repeat` is how often it is played, side by side with a seed each, where it is too quiet to need the whole machine.
    `tidegate` is merged into its routes: rules, classes, tenants, versions, and what each backend has. `configured`
    says what gateways are told beyond where the engines are.
    """

    name: str = ""
    title: str
    about: str
    configured: str = ""
    seconds: float = Field(gt=0, le=600)
    judged: tuple[float, float]
    time_scale: float = Field(default=1.0, gt=0)
    engines: dict[str, EngineGroup]
    load: tuple[Stream, ...]
    faults: tuple[Fault, ...] = ()
    objective: ScenarioObjective
    without: dict[str, str] = {}
    aim: float = 1.0
    aim_round_robin: float = 1.0
    repeat: int = Field(default=0, ge=0)
    tidegate: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> "Scenario":
        names = self.engine_names()
        for fault in self.faults:
            for name in fault.engines:
                if name not in names:
                    raise ValueError(f"faults: no engine {name!r}; there are {', '.join(names)}")
        if not 0 <= self.judged[0] < self.judged[1] <= self.seconds:
            raise ValueError("judged: give [from, until] within 0 and seconds")
        return self

    def engine_names(self) -> list[str]:
        """Name every engine: its group and its number there."""
        return [f"{group}-{number}" for group, of in self.engines.items() for number in range(of.count)]

    @property
    def fault_at(self) -> float:
        """When the first fault begins, or else the first stream that does not come from the start."""
        starts = [fault.at for fault in self.faults] or [each.start for each in self.load if each.start > 0]
        return min(starts, default=self.judged[0])

    @property
    def price(self) -> float:
        """What all engines cost in an hour."""
        return sum(group.count * group.cost_per_hour for group in self.engines.values())


def load(path: Path) -> Scenario:
    """Read a scenario; raises ValueError that names the file and what is wrong."""
    try:
        return Scenario.model_validate({**yaml.safe_load(path.read_text()), "name": path.stem})
    except (ValueError, yaml.YAMLError, TypeError) as error:
        raise ValueError(f"{path.name}: {error}") from None


def shipped() -> list[Path]:
    """Return every scenario file beside this module."""
    return sorted(FOLDER.glob("*.yaml"))
