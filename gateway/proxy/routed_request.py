"""A request on its way: what it asks for, where it may go, and what it holds beside its slot."""

from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

from gateway.backends.backend import Backend
from gateway.claim import SMALLEST, Claim
from gateway.clock import Clock
from gateway.exchange import Exchange
from gateway.observers import Observers
from gateway.policy.routing.choose import Choice, choose
from gateway.policy.routing.pick import Chance
from gateway.policy.slo.objective import Objective
from gateway.proxy.engine_request import EngineRequest
from gateway.proxy.live import LiveModel
from gateway.proxy.live_version import LiveRoute, LiveVersion
from gateway.proxy.request_ids import RequestIds
from gateway.proxy.spec import Charge, RequestSpec
from gateway.proxy.stored import ClaimedName
from gateway.proxy.tracing import Tracing
from gateway.wire.long_event import MAX_EVENT


class RoutedRequest:
    """A request on its way. Nothing changes it: after a reload another one goes on in its stead.

    `spec` is what it asks for, `claim` what it asks of a backend's slots, `message` what engines are sent. It may go
    along `route` to a `version` of its `model`; `objective` is that of its class there. `charge` is None for a
    tenant without limits; `ids` knows its id if that is the client's, `named` the name that its client gave the
    response that it makes.
    """

    __slots__ = ("charge", "claim", "ids", "message", "model", "named", "objective", "route", "spec", "version")

    def __init__(
        self,
        spec: RequestSpec,
        model: LiveModel,
        version: LiveVersion,
        route: LiveRoute,
        message: EngineRequest,
        *,
        objective: Objective,
        claim: Claim = SMALLEST,
        charge: Charge | None = None,
        ids: RequestIds | None = None,
        named: ClaimedName | None = None,
    ) -> None:
        self.spec: Final = spec
        self.model: Final = model
        self.version: Final = version
        self.route: Final = route
        self.objective: Final = objective
        self.message: Final = message
        self.claim: Final = claim
        self.charge: Final = charge
        self.ids: Final = ids
        self.named: Final = named

    def __repr__(self) -> str:
        return f"<RoutedRequest {self.message.request_id} to {self.version.name} of {self.model.name}>"

    def moved(self, model: LiveModel, version: LiveVersion, route: LiveRoute) -> "RoutedRequest":
        """Return the same request on another way."""
        return RoutedRequest(
            self.spec,
            model,
            version,
            route,
            self.message,
            objective=model.objectives.of(self.spec.service_class.name),
            claim=self.claim,
            charge=self.charge,
            ids=self.ids,
            named=self.named,
        )

    @property
    def quota_shown(self) -> bytes:
        """Fields that tell the client what its tenant has left."""
        return b"" if self.charge is None else self.charge.shown

    def settle(self, exchange: Exchange) -> None:
        """Let go of what the request held beside its slot: its ids, and its tenant's quota."""
        if self.ids is not None:
            self.ids.give_back(self.message.request_id)
        if self.named is not None:
            self.named.end()
        if self.spec.is_lookup:
            # What is told again was counted when it was made.
            exchange.prompt_tokens = exchange.output_tokens = exchange.cached_tokens = None
            exchange.first_content = exchange.last_content = exchange.itl_sum = 0.0
            exchange.content_events, exchange.itl = 0, []
        if self.charge is not None:
            self._settle(self.charge, exchange)

    def _settle(self, charge: Charge, exchange: Exchange) -> None:
        """Charge the tenant for what was really used; an answer that the engine did not count, for what was seen."""
        prompt, output = exchange.prompt_tokens, exchange.output_tokens
        if prompt is None:
            prompt = exchange.prompt_estimate if exchange.client_status == 200 else 0
        if output is None:
            output = exchange.content_events
            if exchange.answer_size and self.spec.output:
                written = self.model.memory.prompts.tokens(exchange.answer_size)
                output = min(written, self.spec.choices * self.spec.output)
        charge.settle(prompt + output)


Chooser: TypeAlias = Callable[[list[Backend], int, float, Chance, Claim], Choice[Backend] | None]
"""Chooses among ready backends, as `policy.routing.choose.choose` does."""


class ProxyContext:
    """What every request is handed: a clock, chance, the observers, who chooses a backend, and who samples traces."""

    __slots__ = ("choose", "clock", "max_event", "observers", "rng", "tracing")

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        observers: Observers,
        choose: Chooser = choose,
        tracing: Tracing | None = None,
        *,
        max_event: int = MAX_EVENT,
    ) -> None:
        self.clock = clock
        self.rng = rng
        self.observers = observers
        self.choose = choose
        self.tracing = tracing
        self.max_event = max_event
