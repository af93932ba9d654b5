"""The route table joined with live backends: what one request looks its way up in. Rebuilt at every reload."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from gateway.backends.backend import Backend
from gateway.backends.registry import Reconciled, Registry
from gateway.config.table import ModelSpec, RouteTable, Timeouts, VersionSpec
from gateway.errors import ModelNotFound
from gateway.policy.admission.kinds import Kinds
from gateway.policy.canary.split import Split
from gateway.policy.routing.retry import RetryBudget
from gateway.policy.routing.rules import SPILL_AT_BURN, Rule, Traits, first_match
from gateway.policy.routing.tokens import TokenEstimate
from gateway.policy.slo.buckets import bounds_for
from gateway.policy.slo.objective import Objective
from gateway.proxy.admission_queue import AdmissionQueue, Joining
from gateway.proxy.live_version import LONGEST_CONTEXT, LivePool, LiveRoute, LiveVersion
from gateway.proxy.similar import unknown_model
from gateway.proxy.traffic_split import Mirror, TrafficSplit
from gateway.wire.slices import Work, finish


class ModelObjectives:
    """The objectives of a model's requests, by class; `itl_bounds` are the buckets that their ITL is counted in."""

    __slots__ = ("_by_class", "default", "itl_bounds")

    def __init__(self, spec: ModelSpec) -> None:
        self.default: Final = spec.objective
        self._by_class = spec.objective_by_class
        self.itl_bounds: Final = bounds_for(spec.objectives).itl

    def of(self, service_class: str) -> Objective:
        """Return the objective of a class."""
        return self._by_class.get(service_class, self.default)

    def __iter__(self) -> Iterator[Objective]:
        return iter((self.default, *self._by_class.values()))


class ModelRules:
    """The rules of a model, in order: they say which pools a request may use.

    `asks_tools` and `asks_images` say whether one depends on these, which are looked for in a body only then.
    """

    __slots__ = ("_rules", "asks_images", "asks_tools")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self.asks_tools: Final = any(rule.when.tools is not None for rule in rules)
        self.asks_images: Final = any(rule.when.images is not None for rule in rules)

    def __bool__(self) -> bool:
        return len(self._rules) > 0

    def __len__(self) -> int:
        return len(self._rules)

    def first_match(self, traits: Traits) -> int:
        """Return the place of the first rule that a request meets; that after the last where it meets none."""
        return first_match(self._rules, traits)


class ModelMemory:
    """What outlives a reload of one model: its retry budget, how long its prompts and answers are, and its queue."""

    __slots__ = ("kinds", "lines", "prompts", "retries")

    def __init__(self) -> None:
        self.prompts = TokenEstimate()
        self.retries = RetryBudget()
        self.kinds = Kinds()
        self.lines: dict[tuple[str, frozenset[str]], AdmissionQueue] = {}


class LiveModel:
    """One model: its versions, and how requests get one of them and their objectives.

    A rollout replaces `traffic`. `sticky_by` and `version_header` say what of a request chooses its version. After a
    reload `successor` holds, or the model `is_gone`.
    """

    __slots__ = (
        "echo_served_model",
        "is_gone",
        "memory",
        "name",
        "objectives",
        "rules",
        "sticky_by",
        "successor",
        "timeouts",
        "traffic",
        "version_header",
        "versions",
    )

    def __init__(self, spec: ModelSpec, versions: Mapping[str, LiveVersion], memory: ModelMemory) -> None:
        self.name = spec.name
        self.memory = memory
        self.versions = versions
        self.objectives = ModelObjectives(spec)
        self.rules = ModelRules(spec.rules)
        self.timeouts: Timeouts = spec.timeouts
        self.sticky_by = spec.sticky_by
        self.version_header = spec.version_header
        self.echo_served_model = spec.echo_served_model
        self.traffic = self.divided(spec.split)
        self.successor: LiveModel | None = None
        self.is_gone = False

    def __repr__(self) -> str:
        return f"<LiveModel {self.name}, {self.traffic}>"

    def divided(
        self,
        weights: Iterable[tuple[str, float]],
        standby: Sequence[LiveVersion] | None = None,
        *,
        failing: LiveVersion | None = None,
        mirror: Mirror | None = None,
    ) -> TrafficSplit:
        """Return traffic for the versions of these names, with these weights; keys fall otherwise for each model."""
        rows = list(weights)
        split = Split(
            [(self.versions[name], weight) for name, weight in rows], [f"{self.name}/{name}" for name, _ in rows]
        )
        return TrafficSplit(split, standby, failing=failing, mirror=mirror)


class LiveTable:
    """Every model by name and alias. A request keeps the table that it began with."""

    def __init__(self, models: dict[str, LiveModel], names: dict[str, LiveModel], created: int) -> None:
        """Take models by name, and by name and alias; `created` is told to clients (epoch s)."""
        self._models = models
        self._names = names
        self._created = created

    def known(self, name: str) -> LiveModel | None:
        """Return the model of this name, None where there is none."""
        return self._models.get(name)

    def __iter__(self) -> Iterator[LiveModel]:
        return iter(self._models.values())

    def model(self, name: str, allows: Callable[[str], bool] | None = None) -> LiveModel:
        """Return the model of this name or alias; raises ModelNotFound, naming those like it that it `allows`."""
        model = self._names.get(name)
        if model is None:
            raise self._unknown(name, allows)
        return model

    def _unknown(self, name: str, allows: Callable[[str], bool] | None) -> ModelNotFound:
        known = (each for each, model in self._names.items() if allows is None or allows(model.name))
        return unknown_model(name, known)

    def card(self, name: str, allows: Callable[[str], bool]) -> dict[str, object]:
        """Return what GET /v1/models/{id} answers; raises ModelNotFound, for a model that it does not allow too."""
        model = self.model(name, allows)
        if not allows(model.name):
            raise self._unknown(name, allows)
        card = {"id": name, "object": "model", "created": self._created, "owned_by": "tidegate", "root": model.name}
        context = min(version.context for version in model.versions.values())
        return card if context == LONGEST_CONTEXT else {**card, "max_model_len": context}

    def cards(self, allows: Callable[[str], bool]) -> dict[str, object]:
        """Return what GET /v1/models answers: the models whose names it allows, and their aliases."""
        return {
            "object": "list",
            "data": [self.card(name, allows) for name, model in self._names.items() if allows(model.name)],
        }

    @property
    def serving(self) -> bool:
        """Whether some model has a backend that is known to be ready, or requests for it wait until one is woken."""
        versions = [version for model in self._models.values() for version in model.versions.values()]
        return any(version.is_ready or version.routes[-1].waking is not None for version in versions)


class LiveBuilding:
    """A live table that is built in small pieces, beside the one before, and then put in force at once.

    Until then nothing that requests meet is changed. What was learnt of a model is taken over from the table before.
    """

    __slots__ = ("_backends", "_before", "_classes_changed", "_joining", "_kept", "_prepared", "_routes", "table")

    table: LiveTable

    def __init__(self, prepared: Reconciled, before: LiveTable | None, *, classes_changed: bool = True) -> None:
        self._prepared = prepared
        self._classes_changed = classes_changed
        self._routes: RouteTable = prepared.table
        self._before = before
        self._backends: dict[tuple[str, ...], tuple[Backend, ...]] = {}
        self._kept: list[tuple[ModelMemory, dict[tuple[str, frozenset[str]], AdmissionQueue]]] = []

    def __repr__(self) -> str:
        return f"<LiveBuilding of {len(self._routes.models)} models>"

    def work(self, created: int) -> Work[None]:
        """Build it, a model at a time."""
        models: dict[str, LiveModel] = {}
        for name, spec in self._routes.models.items():
            models[name] = self._model(spec)
            yield
        names = {name: models[spec.name] for name, spec in self._routes.names.items()}
        self._joining = Joining(
            (route.line, [backend.health for backend in route.backends])
            for model in models.values()
            for version in model.versions.values()
            for route in version.routes
        )
        yield from self._joining.work()
        self.table = LiveTable(models, names, created)

    def put_in_force(self) -> None:
        """Let queues follow: this is the moment at which requests move to these routes."""
        for memory, lines in self._kept:
            if memory.lines != lines:
                waiting = {key: line for key, line in memory.lines.items() if line.queue.size}
                memory.lines = {**waiting, **lines}
            if self._classes_changed:
                for line in lines.values():
                    line.queue.follow(self._routes.classes)
        self._joining.tell()

    def _model(self, spec: ModelSpec) -> LiveModel:
        known = self._before.known(spec.name) if self._before is not None else None
        memory = known.memory if known is not None else ModelMemory()
        lines: dict[tuple[str, frozenset[str]], AdmissionQueue] = {}
        self._kept.append((memory, lines))
        versions = {each.name: self._version(spec, each, memory, lines) for each in spec.versions.values()}
        return LiveModel(spec, versions, memory)

    def _version(
        self,
        spec: ModelSpec,
        version: VersionSpec,
        memory: ModelMemory,
        lines: dict[tuple[str, frozenset[str]], AdmissionQueue],
    ) -> LiveVersion:
        routes = []
        for rule in (*spec.rules, None):
            pools = tuple(pool for pool in (rule.use if rule else ()) if pool in version.pools)
            ordered = pools or tuple(version.pools)
            key = version.name, frozenset(ordered)
            line = lines.get(key) or memory.lines.get(key) or AdmissionQueue(self._routes.classes)
            lines[key] = line
            spill_at = rule.spill_at_burn if rule is not None else SPILL_AT_BURN
            live = [LivePool(self._prepared.pools[pool], spec.objectives) for pool in ordered]
            routes.append(LiveRoute(live, self._of(ordered), line, spill_at, cheapest=not pools))
        return LiveVersion(version, self._of(tuple(version.pools)), routes)

    def _of(self, pools: tuple[str, ...]) -> tuple[Backend, ...]:
        """Return the backends of some pools: one tuple for all models that use them."""
        found = self._backends.get(pools)
        if found is None:
            specs = [spec for pool in pools for spec in self._routes.pools[pool].backends]
            found = self._backends[pools] = tuple(self._prepared.backends[spec.id] for spec in specs)
        return found


def live_table(table: RouteTable, registry: Registry, created: int) -> LiveTable:
    """Return a table joined with the registry at once, which has been reconciled with it."""
    building = LiveBuilding(registry.prepare(table), None)
    finish(building.work(created))
    building.put_in_force()
    return building.table
