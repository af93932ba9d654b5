"""Requests for a response that an engine keeps, or that go on from one: who keeps it is known, or found out first."""

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import msgspec

from gateway.errors import NoReadyBackend
from gateway.exchange import Endpoint, Exchange
from gateway.policy.admission.classes import ServiceClass
from gateway.proxy import reading
from gateway.proxy.admission_queue import AdmissionQueue
from gateway.proxy.current import CurrentTable
from gateway.proxy.engine_request import EngineRequest
from gateway.proxy.live import LiveModel
from gateway.proxy.live_version import LiveRoute
from gateway.proxy.reading import Departing, Reading
from gateway.proxy.request_lifecycle import RequestLifecycle
from gateway.proxy.routed_request import ProxyContext, RoutedRequest
from gateway.proxy.searching import Searches
from gateway.proxy.spec import Charge, RequestSpec, seconds_for
from gateway.proxy.stored import Keeper, Made, StoredResponses, candidates, keeper, no_response
from gateway.proxy.tenants import LiveTenant
from gateway.wire.body import Body
from gateway.wire.endpoints import is_stored_id, stored_id
from gateway.wire.service import Request, Writer


class Front(reading.Front, Protocol):
    """What knows where requests may go, and how they are sent."""

    current: CurrentTable
    stored: StoredResponses

    def caller(self, request: Request) -> tuple[LiveTenant, ServiceClass]:
        """Return who asks, and as which class."""

    def shows_labels(self, tenant: LiveTenant) -> bool:
        """Whether a tenant is told where its requests went."""

    def fields(self, request: Request, exchange: Exchange, client: Writer) -> bytes:
        """Return the fields that engines get, and begin the request's trace."""

    def lifecycle(
        self,
        model: LiveModel,
        request: Request,
        body: Body,
        *,
        exchange: Exchange,
        client: Writer,
        place: Keeper | None = None,
    ) -> RequestLifecycle:
        """Return the lifecycle of a request for a model."""


class Lookups:
    """Sends requests to the backend that keeps a response."""

    def __init__(self, front: Front, context: ProxyContext) -> None:
        self._front = front
        self._context = context
        self._searches = Searches()

    def __repr__(self) -> str:
        return f"<Lookups {self._searches}>"

    def retrieving(self, request: Request, exchange: Exchange, client: Writer) -> Departing:
        """Return what sends a request about a response to the engine that keeps it; raises GatewayError."""
        response = stored_id(request.head.path)
        places = self._places(response, request, exchange)
        if not places:
            raise no_response(response)
        if len(places) == 1:
            return self._lifecycle(places[0], request, exchange, client)
        return self._search(
            response,
            places,
            lambda place: self._lifecycle(place, request, exchange, client),
            request,
            exchange=exchange,
            client=client,
        )

    def continuing(
        self, response: str, model: LiveModel, request: Request, body: Body, *, exchange: Exchange, client: Writer
    ) -> Departing:
        """Return what sends a request that goes on from a response to the engine that keeps it; raises GatewayError."""
        front = self._front
        places = [
            each
            for each in self._places(response, request, exchange)
            if each.model is model and each.takes_work(request.head.version)
        ]
        if len(places) > 1 and not is_stored_id(response):
            places = []  # no path can hold it, so no backend can be asked
        if not places and front.current.tenants.closed:
            raise no_response(response)  # the engine that gets it instead may have another tenant's of that name
        if len(places) <= 1:
            place = places[0] if places else None
            return front.lifecycle(model, request, body, exchange=exchange, client=client, place=place)
        return self._search(
            response,
            places,
            lambda place: front.lifecycle(model, request, body, exchange=exchange, client=client, place=place),
            request,
            exchange=exchange,
            client=client,
        )

    def _places(self, response: str, request: Request, exchange: Exchange) -> Sequence[Keeper]:
        """Return who keeps a response, or may keep it; raises NotFound and NoReadyBackend.

        A backend that is not ready is asked too: what it keeps is there again once it is ready.
        """
        front, tenant = self._front, cast(LiveTenant, request.caller)
        made = front.stored.find(response, tenant.name, exchange.received)
        if made is None:
            found = candidates(front.current.table, front.current.tenants, tenant)
            places = [each for each in found if not each.backend.availability.asleep]
            if found and not any(place.backend.readiness.eligible for place in places):
                raise NoReadyBackend("no backend that may keep this response is ready")
            return places
        known = keeper(front.current.table, tenant, made)
        return () if known is None else (known,)

    def _search(
        self,
        response: str,
        places: Sequence[Keeper],
        of: Callable[[Keeper], RequestLifecycle],
        request: Request,
        *,
        exchange: Exchange,
        client: Writer,
    ) -> Reading:
        """Return what finds out which of these places keeps a response, and makes the lifecycle `of` the request."""
        tenant = cast(LiveTenant, request.caller)
        if tenant.is_limited:  # it is a request of its own
            tenant.reserve(0, exchange.received)
            tenant.quota.settle(0, 0)

        def found(place: Keeper) -> RequestLifecycle:
            names = place.backend.id, place.model.name, place.version.name, tenant.name
            self._front.stored.note(response, Made(*names, place.asked, exchange.received))
            return of(place)

        return Reading(
            self._front,
            request,
            lambda done, failed: self._searches.begin(response, places, done, failed),
            found,
            exchange=exchange,
            client=client,
        )

    def _lifecycle(self, place: Keeper, request: Request, exchange: Exchange, client: Writer) -> RequestLifecycle:
        model, version, backend, asked = place
        exchange.model, exchange.version, exchange.itl_bounds = model.name, version.name, model.objectives.itl_bounds
        exchange.forced = exchange.excused = True  # it weighs in no rollout, and by no latency of the backend's
        front, endpoint = self._front, cast(Endpoint, request.head.endpoint)
        tenant, service_class = front.caller(request)
        seconds, total = seconds_for(request.head.timeout, model.timeouts.total), model.timeouts.total
        spec = RequestSpec(
            endpoint,
            tenant,
            service_class,
            model.memory.kinds.of(endpoint.path, service_class.name, None),
            stream=b"?stream" in endpoint.target,
            seconds=seconds,
            is_hurried=seconds < total,
            is_lookup=True,
            repeatable=endpoint.method == b"GET",
            asked=None if model.echo_served_model else asked,
            shows_labels=front.shows_labels(tenant),
            http10=request.http10,
        )
        message = EngineRequest(spec, front.fields(request, exchange, client), exchange.request_id)
        line = AdmissionQueue(front.current.tenants.classes)
        route = LiveRoute((), (backend,), line, 0.0, cheapest=False)
        objective = model.objectives.of(service_class.name)
        exchange.objective, exchange.stream = objective.name, spec.stream
        charge = Charge(tenant, 0, exchange.received) if tenant.is_limited else None
        routed = RoutedRequest(spec, model, version, route, message, objective=objective, charge=charge)
        return RequestLifecycle(routed, exchange, client, context=self._context, deadline=exchange.received + seconds)


def continued(body: Body) -> str | None:
    """Return the id of the response that a request goes on from, "" for nonsense, None where it continues none."""
    given = body.value("previous_response_id")
    try:
        return None if given is None else msgspec.json.decode(given, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
