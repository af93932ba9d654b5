"""The route table joined with live backends: what one request looks its way up in. Built anew at every reload."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

import msgspec

from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.config.table import ModelSpec, RouteTable, Timeouts, VersionSpec
from gateway.errors import ModelNotFound
from gateway.policy.admission.classes import ServiceClass
from gateway.policy.admission.decide import Shedding
from gateway.policy.canary.split import Split
from gateway.policy.routing.retry import RetryBudget
from gateway.policy.routing.tokens import TokenEstimate
from gateway.policy.slo.buckets import bounds_for
from gateway.policy.slo.objective import Sli
from gateway.proxy.line import Line, join

CLOSE_MATCHES = 3


class LiveVersion:
    """One version of a model with the backends of its pools."""

    __slots__ = ("backends", "by_priority", "labels", "line", "name", "served_json", "served_model")

    def __init__(self, spec: VersionSpec, backends: tuple[Backend, ...], line: Line) -> None:
        self.name = spec.name
        self.line = line
        self.by_priority = any(backend.spec.priority_scheduling for backend in backends)
        self.served_model = spec.served_model
        self.served_json = msgspec.json.encode(spec.served_model)
        self.backends = backends
        self.labels: Mapping[str, bytes] = {
            backend.id: b"x-gateway-backend: %b\r\nx-gateway-pool: %b\r\nx-gateway-version: %b\r\n"
            % (backend.id.encode(), backend.spec.pool.encode(), spec.name.encode())
            for backend in backends
        }

    def __repr__(self) -> str:
        return f"<LiveVersion {self.name} of {len(self.backends)} backends>"


class ModelMemory:
    """What outlives a reload of one model: its retry budget, how long its prompts are, whoever waits, by version."""

    __slots__ = ("lines", "prompts", "retries", "shedding")

    def __init__(self) -> None:
        self.prompts = TokenEstimate()
        self.retries = RetryBudget()
        self.shedding = Shedding()
        self.lines: dict[str, Line] = {}

    def line(self, version: str, classes: Mapping[str, ServiceClass]) -> Line:
        """Return where requests of a version wait."""
        line = self.lines.get(version)
        if line is None:
            line = self.lines[version] = Line(classes)
        line.queue.follow(classes)
        return line


class LiveModel:
    """One model: its versions by weight."""

    __slots__ = ("itl_bounds", "memory", "name", "objective", "split", "timeouts", "tpot", "ttft", "versions")

    def __init__(self, spec: ModelSpec, versions: Mapping[str, LiveVersion], memory: ModelMemory) -> None:
        self.name = spec.name
        self.memory = memory
        self.objective = spec.objective
        self.ttft = spec.objective.targets.get(Sli.TTFT)
        self.tpot = spec.objective.targets.get(Sli.TPOT)
        self.itl_bounds = bounds_for(spec.objective).itl
        self.versions = versions
        self.timeouts: Timeouts = spec.timeouts
        self.split = Split([(versions[name], weight) for name, weight in spec.split])


class LiveTable:
    """Every model by name and alias. A request keeps the table that it began with."""

    def __init__(
        self, table: RouteTable, registry: Registry, created: int, *, before: "LiveTable | None" = None
    ) -> None:
        """Join `table` with `registry`, which has been reconciled with it; `created` is told to clients (epoch s).

        What was learnt of a model is taken over from the table `before`.
        """
        known = {name: model.memory for name, model in before._models.items()} if before is not None else {}
        self._models: dict[str, LiveModel] = {
            name: _live_model(spec, table, registry, known.get(name) or ModelMemory())
            for name, spec in table.models.items()
        }
        join(
            (version.line, [backend.health for backend in version.backends])
            for model in self._models.values()
            for version in model.versions.values()
        )
        self._names = {name: self._models[spec.name] for name, spec in table.names.items()}
        self._created = created

    def __iter__(self) -> Iterator[LiveModel]:
        return iter(self._models.values())

    def model(self, name: str) -> LiveModel:
        """Return the model of this name or alias; raises ModelNotFound, naming close matches."""
        model = self._names.get(name)
        if model is None:
            close = get_close_matches(name[:128], self._names, n=CLOSE_MATCHES)
            hint = f"; did you mean {' or '.join(f'`{match}`' for match in close)}?" if close else ""
            raise ModelNotFound(f"the model `{name[:128]}` does not exist{hint}", param="model")
        return model

    def card(self, name: str) -> dict[str, object]:
        """Return what GET /v1/models/{id} answers; raises ModelNotFound."""
        model = self.model(name)
        return {"id": name, "object": "model", "created": self._created, "owned_by": "tidegate", "root": model.name}

    def cards(self) -> dict[str, object]:
        """Return what GET /v1/models answers: models and aliases."""
        return {"object": "list", "data": [self.card(name) for name in self._names]}

    @property
    def serving(self) -> bool:
        """Whether some model has a backend that is known to be ready."""
        return any(
            backend.readiness.state == "ready" and backend.serves(version.served_model)
            for model in self._models.values()
            for version in model.versions.values()
            for backend in version.backends
        )


def _live_model(spec: ModelSpec, table: RouteTable, registry: Registry, memory: ModelMemory) -> LiveModel:
    versions = {}
    for version in spec.versions.values():
        ids = dict.fromkeys(backend.id for pool in version.pools for backend in table.pools[pool].backends)
        backends = tuple(registry[backend_id] for backend_id in ids)
        versions[version.name] = LiveVersion(version, backends, memory.line(version.name, table.classes))
    return LiveModel(spec, versions, memory)
