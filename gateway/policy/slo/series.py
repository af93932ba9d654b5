"""A series of good and bad events: what identifies it, on metrics, in alerts and in lasting state, and its counts."""

from enum import StrEnum
from typing import NamedTuple

from gateway.policy.slo.objective import Target
from gateway.policy.slo.windows import Windows


class Kind(StrEnum):
    """What a burn rate can belong to: the closed set of the `subject` label. GATEWAY is the process's own time."""

    MODEL = "model"
    VERSION = "version"
    POOL = "pool"
    BACKEND = "backend"
    GATEWAY = "gateway"


class SeriesKey(NamedTuple):
    """One SLI of one subject under one objective.

    `kind` is the subject's kind, `name` its name. `prompt_tokens` is a class of prompt lengths such as "4096+", "" for
    prompts of all lengths. In state from before objectives were kept apart, `objective` is "".
    """

    kind: str
    name: str
    objective: str
    sli: str
    prompt_tokens: str = ""


class Series:
    """The events of one SLI of one subject under one objective, and the target that they are held to.

    `model` and `version` say whose it is, "" where that is not one model's or version's. `prompt_tokens` is a class of
    prompt lengths, "" for all of them.
    """

    __slots__ = ("kind", "model", "name", "objective", "prompt_tokens", "sli", "target", "version", "windows")

    def __init__(self, key: SeriesKey, target: Target, windows: Windows, *, model: str = "", version: str = "") -> None:
        self.kind = Kind(key.kind)
        self.name = key.name
        self.objective = key.objective
        self.sli = key.sli
        self.prompt_tokens = key.prompt_tokens
        self.model = model
        self.version = version
        self.target = target
        self.windows = windows

    def __repr__(self) -> str:
        return f"<Series {self.sli} of {self.kind} {self.name} ({self.objective}) {self.windows!r}>"

    @property
    def key(self) -> SeriesKey:
        """What it is known by over reloads and restarts."""
        return SeriesKey(self.kind, self.name, self.objective, self.sli, self.prompt_tokens)


class SlotCounts(NamedTuple):
    """What was counted of one series in one slot: `width` seconds from `slot * width` of the epoch.

    `first` and `last` are when the first and the last of these events were counted, in seconds since the epoch.
    """

    series: SeriesKey
    width: float
    slot: int
    good: int
    bad: int
    first: float
    last: float
