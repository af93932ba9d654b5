"""The front of the data plane: understands a request, finds where it may go, and sends it on its way."""

import asyncio
import logging
from typing import Final, cast
from urllib.parse import unquote

from gateway.errors import ClientError, GatewayError, RateLimited
from gateway.exchange import BodyKind, Dialect, Endpoint, Exchange, Outcome
from gateway.policy.admission.classes import ServiceClass
from gateway.proxy import anthropic
from gateway.proxy.answers import error_head
from gateway.proxy.cors import is_preflight, permit, seen_by
from gateway.proxy.current import CurrentTable
from gateway.proxy.engine_request import EngineRequest
from gateway.proxy.hops import Hops
from gateway.proxy.http10 import Kept
from gateway.proxy.live import LiveModel
from gateway.proxy.live_version import LiveVersion
from gateway.proxy.lookups import Lookups, continued
from gateway.proxy.mirroring import Mirroring
from gateway.proxy.reading import Departing, Reading
from gateway.proxy.replies import Bodiless
from gateway.proxy.request_ids import RequestIds, sane
from gateway.proxy.request_lifecycle import RequestLifecycle
from gateway.proxy.routed_request import ProxyContext, RoutedRequest
from gateway.proxy.spec import Charge, claim_of, understand
from gateway.proxy.steering import route_for, served, version_for
from gateway.proxy.stored import Keeper, StoredResponses
from gateway.proxy.tenants import LiveTenant
from gateway.proxy.tracing import NO_HEADERS, carried
from gateway.proxy.traffic_split import Mirror
from gateway.wire.body import Body, read_json, read_long_json
from gateway.wire.edge import Edge
from gateway.wire.endpoints import MODELS_PREFIX, OPEN
from gateway.wire.guard import Head
from gateway.wire.guarded import guarded
from gateway.wire.heads import Headers, find, forwarded_request
from gateway.wire.multipart import SHORT_FORM, read_long_form, read_multipart
from gateway.wire.phase import LAST_CALL
from gateway.wire.rope import Rope
from gateway.wire.service import Request, Responder, Writer
from gateway.wire.slices import Slices, Work

_log = logging.getLogger(__name__)
_RESPONSES: Final = Dialect.RESPONSES
_NONE: Final = BodyKind.NONE
_RESPONSES_PATH: Final = "/v1/responses"


class Gateway:
    """Answers every request of the data listener, by the `current` table."""

    def __init__(
        self,
        current: CurrentTable,
        context: ProxyContext,
        mirroring: Mirroring,
        slices: Slices,
        *,
        stored: StoredResponses,
        edge: Edge,
    ) -> None:
        self._edge = edge
        self._mirroring = mirroring
        self.current = current
        self.draining = self.retiring = False
        self.last_call: float = LAST_CALL
        self.hops = Hops()
        self._context = context
        self.ids = RequestIds()
        self._slices = slices
        self.stored = stored
        self._lookups = Lookups(self, context)

    def authorize(self, head: Head) -> LiveTenant | None:
        """Return whose key it is; raises InvalidApiKey, and LoopDetected. Health and readiness are told to anyone."""
        if head.hops is not None:
            self.hops.check(head.hops)
        if head.refusal is not None or (head.endpoint is None and head.path in OPEN):
            return None
        tenants = self.current.tenants
        if head.known_to is tenants:
            return cast(LiveTenant, head.caller)
        tenant = tenants.of(head)
        head.known_to, head.caller = tenants, tenant
        return tenant

    def serve(self, request: Request, client: Writer) -> Responder | None:
        """Answer a request, at once, or by its lifecycle."""
        endpoint = request.head.endpoint
        request_id = self.ids.of(request.head.request_id)
        if request.http10 and request.keep_alive:
            client = Kept(client)
        client = seen_by(client, request.headers, self._edge.cors_origins)
        if endpoint is None:
            head = request.head
            if head.refusal is None:
                tenant_or_none = cast(LiveTenant | None, request.caller)
                self._serve_here(head.path, request_id, tenant_or_none, Bodiless(client) if head.bodiless else client)
            elif head.is_options and head.refusal.status == 405 and is_preflight(client, request.headers):
                permit(client, request.headers, request_id)
            else:
                client = Bodiless(client) if head.bodiless else client
                self._answer(head.refusal, Exchange(request_id, "other", request.received), client, head.path)
            return None
        exchange = Exchange(request_id, endpoint.path, request.received)
        try:
            tenant, service_class = self.caller(request)
            exchange.tenant, exchange.service_class = tenant.name, service_class.name
            departing = self._departing(endpoint, request, exchange, client)
        except Exception as error:  # noqa: BLE001 - `turn_down` answers whatever it is
            self.turn_down(exchange, client, error)
            return None
        guarded(departing, departing.start)
        return departing

    def _departing(self, endpoint: Endpoint, request: Request, exchange: Exchange, client: Writer) -> Departing:
        """Return what sends a request, or what finds out first where to; raises GatewayError."""
        if endpoint.body is _NONE:
            return self._lookups.retrieving(request, exchange, client)
        body = _read(endpoint, request)
        if isinstance(body, Body):
            return self._understood(request, body, exchange, client)
        work = body
        return Reading(
            self,
            request,
            lambda done, failed: self._slices.start(work, done, failed),
            lambda body: self._understood(request, body, exchange, client),
            exchange=exchange,
            client=client,
        )

    def _understood(self, request: Request, body: Body, exchange: Exchange, client: Writer) -> Departing:
        """Return the lifecycle of a request that was read; one that continues a response goes where that is kept."""
        exchange.asked = body.model
        tenant = cast(LiveTenant, request.caller)
        model = self.current.table.model(body.model, tenant.allows)
        tenant.may_use(model.name, body.model)
        exchange.model = model.name
        if exchange.endpoint == _RESPONSES_PATH and (response := continued(body)) is not None:
            return self._lookups.continuing(response, model, request, body, exchange=exchange, client=client)
        return self.lifecycle(model, request, body, exchange=exchange, client=client)

    def turn_down(self, exchange: Exchange, client: Writer, error: Exception) -> None:
        """Answer a request that can be sent nowhere, and settle."""
        if not isinstance(error, GatewayError):
            _log.error("a request broke the gateway", exc_info=error, extra={"request_id": exchange.request_id})
            error = GatewayError("the gateway failed on this request; its log says why")
        self._answer(error, exchange, client)

    def abandoned(self, exchange: Exchange, outcome: Outcome, reason: str) -> None:
        """Settle a request without an answer."""
        exchange.outcome, exchange.reason, exchange.ended = outcome, reason, self._context.clock()
        self._context.observers.settled(exchange)

    def _mirror(self, mirror: Mirror, routed: RoutedRequest, body: Body, exchange: Exchange) -> None:
        """Have a share of requests copied, each after it is on its way: a copy comes last."""
        copies = routed.spec.repeatable and routed.named is None  # a name in its body would be in use twice
        if copies and self._context.rng.random() < mirror.share:
            asyncio.get_running_loop().call_soon(self._copy, routed, body, exchange, mirror.version)

    def _copy(self, routed: RoutedRequest, body: Body, exchange: Exchange, version: LiveVersion) -> None:
        try:
            self._mirroring.copy(routed, body, exchange, version, ids=self.ids)
        except Exception:  # noqa: BLE001 - no copy may cost the request that it copies
            _log.exception("a request could not be copied", extra={"request_id": exchange.request_id})

    def refuse(self, error: GatewayError, target: bytes, headers: Headers, received: float, client: Writer) -> None:
        """Answer what did not pass the guard."""
        client = seen_by(client, headers, self._edge.cors_origins)
        self._answer(error, Exchange(self.ids.of(find(headers, b"x-request-id")), "other", received), client, target)

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
        """Return the lifecycle of a request for a model, to this `place` alone where there is one.

        Raises GatewayError where it can be sent nowhere.
        """
        endpoint = cast(Endpoint, request.head.endpoint)
        tenant, service_class = self.caller(request)
        version = self._version(model, exchange, request, body, place)
        stored, name, repeatable = None, None, True
        if endpoint.dialect is _RESPONSES:
            repeatable = not body.keeps_state
            stored, name = self._stored(body, tenant, request.received)
        shows = self.shows_labels(tenant)
        spec = understand(
            request, body, model, version, service_class, stored=stored, repeatable=repeatable, shows_labels=shows
        )
        fields = self.fields(request, exchange, client)
        exchange.stream = body.stream
        exchange.itl_bounds = model.objectives.itl_bounds
        objective = model.objectives.of(service_class.name)
        exchange.objective = objective.name
        prompt = exchange.prompt_estimate = version.capped(model.memory.prompts.tokens(spec.size), body.prompts)
        route = route_for(model, version, endpoint, exchange, body) if model.rules else version.routes[-1]
        claim, charge = claim_of(spec, body, model, prompt), None
        if tenant.is_limited:
            charge = Charge(tenant, prompt + body.generated * spec.output, exchange.received)
        if place is not None:
            route = version.pin(claim, place.backend)
        given = self._name(exchange, request.head.request_id, body)
        ids = None if given is None else self.ids
        message = EngineRequest(spec, fields, exchange.request_id if given is None else self.ids.take(given))
        message.write(body, version)
        named = None if name is None else self.stored.begin(name, tenant.name)
        routed = RoutedRequest(
            spec,
            model,
            version,
            route,
            message,
            objective=objective,
            claim=claim,
            charge=charge,
            ids=ids,
            named=named,
        )
        if model.traffic.mirror is not None and not exchange.forced:
            self._mirror(model.traffic.mirror, routed, body, exchange)
        deadline = request.received + spec.seconds
        return RequestLifecycle(routed, exchange, client, context=self._context, deadline=deadline)

    def _version(
        self, model: LiveModel, exchange: Exchange, request: Request, body: Body, place: Keeper | None
    ) -> LiveVersion:
        """Return the version that a request gets."""
        traffic = model.traffic
        version = traffic.only
        if place is not None:
            version, exchange.forced = place.version, True
        elif version is None or request.head.version is not None:
            version = version_for(model, exchange, request.head, body, self._context.rng.random())
        elif len(traffic.standby) > 1:
            version = served(model, version, exchange)
        exchange.version = version.name
        return version

    def caller(self, request: Request) -> tuple[LiveTenant, ServiceClass]:
        """Return who asks, and as which class."""
        tenant = cast(LiveTenant, request.caller)
        return tenant, self.current.tenants.class_for(tenant, request.head.service_class)

    def shows_labels(self, tenant: LiveTenant) -> bool:
        """Whether a tenant is told where its requests went."""
        return self._edge.gateway_headers and (tenant.is_free or tenant.spec.debug)

    def fields(self, request: Request, exchange: Exchange, client: Writer) -> bytes:
        """Return the fields that engines get, and begin the request's trace."""
        head, tracing = request.head, self._context.tracing
        stays, traced = NO_HEADERS, b""
        if tracing is not None or head.traceparent is not None:
            exchange.trace, stays, traced = carried(head.traceparent, tracing)
        trusted = bool(self._edge.trusted_proxies) and self._edge.trusts(client.peer)
        fields = None if stays or trusted else head.forwarded
        if fields is None:
            fields = forwarded_request(request.headers, head.connection | stays, trusted=trusted)
            if not stays and not trusted:
                head.forwarded = fields
        hops = self.hops.first if head.hops is None else self.hops.field(head.hops)
        return b"%b%b%b" % (fields, traced, hops)

    def _stored(self, body: Body, tenant: LiveTenant, received: float) -> tuple[StoredResponses | None, str | None]:
        """Return where a response will be looked for, and its client's name for it; raises InvalidRequest."""
        keeps, given = body.value("store") != b"false", body.value("request_id")
        name = None if given is None else self.stored.name(given, tenant.name, received, keeps=keeps)
        return self.stored if keeps else None, name

    def _name(self, exchange: Exchange, in_head: bytes | None, body: Body) -> str | None:
        """Return the id that the client gave, in the head or else in the body, which it is answered with."""
        given = sane(in_head)
        if given is None and (in_body := body.value("request_id")) is not None:
            given = sane(in_body[1:-1])
            exchange.request_id = given or exchange.request_id
        return given

    def _answer(self, error: GatewayError, exchange: Exchange, client: Writer, target: bytes = b"") -> None:
        """Answer with an error before any attempt was made, and settle."""
        path = target.decode("latin-1") or exchange.endpoint
        if exchange.endpoint == "other":
            exchange.asked = path.partition("?")[0]
        body = anthropic.body(error, path, exchange.request_id)
        client.reply_json(error.status, error_head(error, exchange.request_id), body)
        exchange.client_status = error.status
        exchange.outcome = _outcome(error)
        exchange.reason = error.code
        exchange.ended = self._context.clock()
        self._context.observers.settled(exchange)
        client.finish()

    def _serve_here(self, path: bytes, request_id: str, tenant: LiveTenant | None, client: Writer) -> None:
        """Answer what no engine is asked for; these count in no SLI, so nothing is settled.

        `tenant` is None where no key is needed.
        """
        head = b"x-request-id: %b\r\n" % request_id.encode()
        if path == b"/health":
            client.reply_json(200, head, {"status": "ok"})
        elif path == b"/ready":
            stopping = self.draining and not self.retiring
            ready = not stopping and self.current.table.serving
            status = "draining" if stopping else "ready" if ready else "no ready backend"
            client.reply_json(200 if ready else 503, head, {"status": status})
        elif tenant is not None and path == b"/v1/models":
            client.reply_json(200, head, self.current.table.cards(tenant.allows))
        elif tenant is not None:
            try:
                card = self.current.table.card(
                    unquote(path.removeprefix(MODELS_PREFIX).decode("latin-1")), tenant.allows
                )
            except GatewayError as error:
                client.reply_json(error.status, head, error.body())
            else:
                client.reply_json(200, head, card)
        client.finish()


def _read(endpoint: Endpoint, request: Request) -> Body | Work[Body]:
    """Return what a request asks for; of a long one, the work that finds out."""
    raw, kind = request.body, request.head.content_type
    if endpoint.is_json:
        dialect = endpoint.dialect
        return read_json(raw, dialect) if isinstance(raw, bytes) else read_long_json(raw, dialect)
    if isinstance(raw, bytes):
        return read_multipart(raw, kind) if len(raw) <= SHORT_FORM else read_long_form(Rope((raw,)), kind, raw)
    return read_long_form(raw, kind)


def _outcome(error: GatewayError) -> Outcome:
    if isinstance(error, RateLimited):
        return Outcome.QUOTA
    return Outcome.CLIENT_ERROR if isinstance(error, ClientError) else Outcome.INTERNAL
