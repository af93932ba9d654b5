"""Objectives: for each SLI the share of events that must be good, and how fast good is."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from itertools import pairwise
from types import MappingProxyType
from typing import Final

DAY: Final = 86_400.0
DEPLOYMENT: Final = "deployment"
"""The SLI of deployments: no request's, so not among those."""
THROUGHPUT: Final = "throughput"
"""The SLI of slots of time in which requests waited: no request's either."""
SUPPORTING_STAGES: Final[tuple[str, ...]] = ("registry_pull", "image_pull", "provisioning", "validation")
"""What CD systems report of their own part in a deployment: an SLI each, and the closed set of the `stage` label."""
DEPLOYMENT_SLIS: Final = frozenset((DEPLOYMENT, *SUPPORTING_STAGES))
"""The SLIs of deployments and their stages. They are about CD systems, not about what users experience."""


class Sli(StrEnum):
    """What is measured against an objective: the closed set of the `sli` label."""

    __hash__ = str.__hash__  # of every key on the hot path; Enum's own is written in Python

    AVAILABILITY = "availability"
    TTFT = "ttft"
    TPOT = "tpot"
    ITL = "itl"
    E2E = "e2e"
    COLD_START = "cold_start"


@cache
def prompt_class_names(steps: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of the classes that prompts fall into at these lengths, one or more, ascending."""
    return f"<{steps[0]}", *(f"{low}-{high - 1}" for low, high in pairwise(steps)), f"{steps[-1]}+"


@dataclass(frozen=True, slots=True)
class Target:
    """`ratio` of the events (above 0, below 1) must be good; a latency is good up to `under` seconds.

    `by_prompt_tokens` holds ascending (tokens, seconds): from so many prompt tokens on, that threshold holds instead.
    `steps` are its tokens alone.
    """

    ratio: float
    under: float = 0.0
    by_prompt_tokens: tuple[tuple[int, float], ...] = ()
    steps: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(tokens for tokens, _ in self.by_prompt_tokens))

    @property
    def budget(self) -> float:
        """The share of events that may be bad."""
        return 1.0 - self.ratio

    @property
    def highest_burn(self) -> float:
        """The burn rate when every event is bad: nothing burns faster."""
        return 1.0 / self.budget

    def threshold(self, prompt_tokens: int) -> float:
        """Return the threshold in seconds for a prompt of this length."""
        step = bisect_right(self.steps, prompt_tokens)
        return self.by_prompt_tokens[step - 1][1] if step else self.under

    def step(self, prompt_tokens: int) -> int:
        """Return the index in `prompt_classes` of a prompt of this length, 0 where length makes no difference."""
        return bisect_right(self.steps, prompt_tokens)

    @property
    def prompt_classes(self) -> tuple[tuple[str, "Target"], ...]:
        """The classes of prompt lengths, shortest first, with a target of their own each; none without steps."""
        bounds = self.steps
        if not bounds:
            return ()
        names = prompt_class_names(bounds)
        return tuple((name, Target(self.ratio, under)) for name, under in zip(names, self.thresholds, strict=True))

    @property
    def thresholds(self) -> tuple[float, ...]:
        """All thresholds in seconds, none for availability."""
        return (self.under, *(seconds for _, seconds in self.by_prompt_tokens)) if self.under else ()


@dataclass(frozen=True, slots=True)
class Throughput:
    """How much is done each second while requests wait, in `target.ratio` of the time; 0 where there is no such floor.

    `tokens` are output tokens, `requests` complete answers.
    """

    target: Target
    tokens: float = 0.0
    requests: float = 0.0

    def is_met(self, tokens: float, requests: float) -> bool:
        """Whether so much each second is enough."""
        return tokens >= self.tokens and requests >= self.requests


@dataclass(frozen=True, slots=True)
class Objective:
    """What requests of a model are held to: targets by SLI, over `window` seconds.

    `deployment` is how soon a new version gives its first live answer, None where that has no target, and `stages` how
    soon stages that CD systems report succeed, by name. A request that waited for an engine to be started is held to
    `cold_start` instead of `ttft` and `e2e`. `streamed` and `whole` are the latency targets that a stream,
    and any other answer, is held to as a whole. `throughput` is how much is done while requests wait.
    """

    name: str
    targets: Mapping[Sli, Target]
    window: float = 28 * DAY
    deployment: Target | None = None
    hold: bool = True
    stages: tuple[tuple[str, Target], ...] = ()
    throughput: Throughput | None = None
    ttft: Target | None = field(init=False, repr=False, compare=False)
    tpot: Target | None = field(init=False, repr=False, compare=False)
    itl: Target | None = field(init=False, repr=False, compare=False)
    e2e: Target | None = field(init=False, repr=False, compare=False)
    cold_start: Target | None = field(init=False, repr=False, compare=False)
    streamed: tuple[tuple[Sli, Target], ...] = field(init=False, repr=False, compare=False)
    whole: tuple[tuple[Sli, Target], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        targets = self.targets
        for sli in (Sli.TTFT, Sli.TPOT, Sli.ITL, Sli.E2E, Sli.COLD_START):
            object.__setattr__(self, str(sli), targets.get(sli))
        rows = tuple((sli, targets[sli]) for sli in (Sli.TTFT, Sli.TPOT, Sli.E2E) if sli in targets)
        object.__setattr__(self, "streamed", rows)
        object.__setattr__(self, "whole", tuple(row for row in rows if row[0] is Sli.E2E))


DEFAULT: Final = Objective(
    "default",
    MappingProxyType(
        {
            Sli.AVAILABILITY: Target(0.999),
            Sli.TTFT: Target(0.99, 2.0, ((4096, 5.0), (32_768, 30.0))),
            Sli.TPOT: Target(0.99, 0.1),
        }
    ),
)
"""Of a model that names no objective: what a person who chats would put up with."""
