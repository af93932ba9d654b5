"""What a pool wants: how many replicas, why and until when; and the values that this is decided from.

Times are seconds of one monotonic clock, the caller's. "Spent" is said of a burn rate that is weighed by how much of
its window was in use.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """Which rule a want comes from."""

    BURN = "burn"
    """The spent burn of the last hour passed its page factor: out."""
    QUEUE = "queue"
    """A request that came now would wait for too long to meet its objective: out."""
    LOAD = "load"
    """The load is more than the replicas are predicted to carry within the objective: out."""
    FORECAST = "forecast"
    """The load expected when a replica asked for now is warm is more than they would carry: out."""
    CALM = "calm"
    """The burn has been low for long, and fewer are predicted to keep the objective: in."""
    IDLE = "idle"
    """There has been no traffic for long: in, to the minimum."""
    WAKE = "wake"
    """Requests wait and there is no replica: out, from zero."""
    HOLD = "hold"
    """Nothing calls for a change."""
    STALE = "stale"
    """The signals are too old, or the pool has none: no change."""


class Rail(StrEnum):
    """A guard rail that changed what a rule asked for."""

    MIN = "min"
    MAX = "max"
    STEP = "step"
    COOL_DOWN = "cool_down"
    COST = "cost"
    APPROVAL = "approval"
    DEAD_BAND = "dead_band"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What one engine says of its load; None is what it does not expose, or what cannot be.

    `backlog` are requests that wait in the engine, `running` those that it works on. `slots_used` and `kv_used` are
    shares, 0 to 1.
    """

    backlog: float | None = None
    slots_used: float | None = None
    kv_used: float | None = None
    running: float | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """The load expected at one time, in requests per second: the middle, and an upper quantile of what it may be."""

    at: float
    middle: float
    upper: float


@dataclass(frozen=True, slots=True)
class Bursts:
    """How requests came in the last quarter of an hour: per second on average, and in the busiest half minute.

    `dispersion` is the variance over the mean of how many come in the time that one holds a slot: 1 by chance alone.
    """

    mean: float
    peak: float
    dispersion: float


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """What is known of a pool at one time; None is what is not known.

    `ready` replicas serve, `starting` ones were asked for and do not yet, `drained` ones run and are sent nothing: an
    HPA counts them, so that a want is of so many more. `burn` is the spent burn rate of the last
    hour, `burn_now` the plain one of the last five minutes, each the highest of the pool's objectives; `page_factor` is
    what `burn` pages at, derived from the SLO window. `budget` is the share of requests that may miss the objective.

    `queue_wait` is how long a request that came now would wait for a slot, in seconds; `patience` how long it may wait
    and still meet its objective. `queued` wait now, `in_flight` have a slot now; `limit` is the sum of the limits of
    the ready replicas. `arrivals` are requests per second over the last half minute (those that were shed, too), and
    `bursts` how they come; `holding` is how long a request holds a slot on average, in seconds. `expected` are the
    arrivals at `now + warm_up`. `age` is how old the oldest of these is, infinite while some replica has never been
    looked at. `approved` is up to how many replicas a person has approved.
    """

    pool: str
    ready: int
    starting: int = 0
    drained: int = 0
    burn: float | None = None
    burn_now: float | None = None
    page_factor: float = 13.44
    budget: float = 0.01
    queue_wait: float | None = None
    patience: float | None = None
    queued: int = 0
    in_flight: float = 0.0
    limit: float | None = None
    arrivals: float | None = None
    holding: float | None = None
    bursts: Bursts | None = None
    engines: tuple[EngineLoad, ...] = ()
    expected: Forecast | None = None
    age: float = 0.0
    approved: int | None = None

    @property
    def replicas(self) -> int:
        """All replicas, in service or not: what an HPA counts."""
        return self.ready + self.starting + self.drained


@dataclass(frozen=True, slots=True)
class Rules:
    """How a pool may be scaled: its guard rails, and what a replica is. Times are in seconds.

    A want is `min` to `max` replicas and changes direction at most once in `cool_down`. It changes by at most
    `step_out` a minute (None: any number) and by at most `step_in` in `stabilisation` (None: by half). `warm_up`
    passes from asking for a replica until it serves. It goes in when the burn has been low for `calm_for`, and to `min`
    when there has been no request for `idle_for`. A replica costs `cost_per_hour`, all of them at most `cost_cap`. More
    than `approval_above` need a person. Signals older than `stale_after` freeze a want; it holds for `valid_for`.
    `dead_band` is the share of a change that the HPA ignores, 0 where it ignores none.
    """

    min: int = 1
    max: int = 10
    step_out: int | None = None
    step_in: int | None = None
    cool_down: float = 300.0
    warm_up: float = 180.0
    stabilisation: float = 300.0
    calm_for: float = 1800.0
    idle_for: float = 600.0
    cost_per_hour: float | None = None
    cost_cap: float | None = None
    approval_above: int | None = None
    stale_after: float = 60.0
    valid_for: float = 60.0
    dead_band: float = 0.1


@dataclass(frozen=True, slots=True)
class Memory:
    """What a decision needs to know of those before it. It is plain numbers, so that it can be kept over a restart.

    `target` is the last want, None before the first. The load has been `calm_since` (its burn is low), `idle_since`
    (there is none), `short_since` (the queue would miss its objective) and `heavy_since` (too much for the target);
    what it needs is `known_since`; None where that is not so now. `needs` are how many replicas it needed, by time, of
    the last minutes: only those that no later one exceeds. `smoothed` is the mean of late of requests with a slot,
    `seen_at` when the last load was. `direction` is that of the last change (1 out, -1 in, 0 before the first) at
    `changed_at`; `turned_at` is when it last became another one, and `burned_at` when a burn last changed it.
    `stepped_from` was the target at `stepped_at`, from where steps are counted. `told` is what a shared budget left of
    the target, None where that was all of it.
    """

    target: int | None = None
    calm_since: float | None = None
    idle_since: float | None = None
    short_since: float | None = None
    heavy_since: float | None = None
    known_since: float | None = None
    needs: tuple[tuple[float, int], ...] = ()
    smoothed: float = 0.0
    seen_at: float | None = None
    direction: int = 0
    changed_at: float | None = None
    turned_at: float | None = None
    burned_at: float | None = None
    stepped_at: float | None = None
    stepped_from: int = 0
    told: int | None = None


@dataclass(frozen=True, slots=True)
class Want:
    """How many replicas a pool wants, and why, in words; `rule` and `inputs` are what it follows from.

    `proposed` is what the rule asked for before `rails` changed it. `value` is what to tell an HPA with a target of 1
    per replica so that it comes to `target` in spite of its dead band. `awaits` is how many are wanted once a person
    approves, None where no approval is missing. `cost_per_hour` is that of `target`, None where prices are not known.
    It is not `known` before there were signals for the first time: nothing should be scaled by it.
    """

    pool: str
    min: int
    max: int
    target: int
    unit: str
    replicas_now: int
    reason: str
    rule: Rule
    inputs: Mapping[str, float | None]
    valid_until: float
    value: float
    proposed: int
    rails: tuple[Rail, ...] = ()
    awaits: int | None = None
    cost_per_hour: float | None = None
    known: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """A want, and what the next decision has to know."""

    want: Want
    memory: Memory
