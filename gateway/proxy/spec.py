"""What a request asks for, as the gateway reads it, and what its tenant is charged."""

from typing import Final, cast

from gateway.claim import Claim
from gateway.errors import InvalidRequest
from gateway.exchange import Endpoint
from gateway.policy.admission.classes import ServiceClass
from gateway.policy.admission.kinds import Kind
from gateway.proxy.live import LiveModel
from gateway.proxy.live_version import LiveVersion
from gateway.proxy.stored import StoredResponses
from gateway.proxy.tenants import LiveTenant
from gateway.wire.body import Body
from gateway.wire.service import Request

_AT_ONCE: Final = 256
"""Answers that an engine works on at once (vLLM's `--max-num-seqs`): the others of a list of prompts wait there."""


class RequestSpec:
    """What a request asks for. Nothing changes it, whatever becomes of the request.

    `size` is its text's, in bytes; `has_media` says that there is more than text. `choices` are the answers it wants,
    `output` the tokens of one answer at most, `kind` the requests it is like. `seconds` is the time it has: `is_timed`
    says that its client named it, `is_hurried` that this is less than the route allows. `repeatable` says whether it
    may be sent to an engine twice. `stored` is where the response that is made will be looked for. `is_lookup` says
    that it asks for one made before, of the one backend that has it: it takes no slot, and no backend works for its
    answer now. `is_copy` says that nobody waits for its answer: it never queues, and is never tried again. `asked` is
    the name of the model that answers shall bear, quoted; None for that which engines give it. `shows_labels` says
    whether its client is told where it went, in `x-gateway-*` fields, `http10` that it speaks no newer HTTP.
    """

    __slots__ = (
        "asked",
        "choices",
        "endpoint",
        "has_media",
        "http10",
        "is_copy",
        "is_hurried",
        "is_lookup",
        "is_timed",
        "kind",
        "output",
        "repeatable",
        "seconds",
        "service_class",
        "shows_labels",
        "size",
        "stored",
        "stream",
        "tenant",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        tenant: LiveTenant,
        service_class: ServiceClass,
        kind: Kind,
        *,
        stream: bool,
        seconds: float,
        size: int = 0,
        has_media: bool = False,
        choices: int = 1,
        output: int = 0,
        is_timed: bool = False,
        is_hurried: bool = False,
        is_lookup: bool = False,
        is_copy: bool = False,
        repeatable: bool = True,
        stored: StoredResponses | None = None,
        asked: bytes | None = None,
        shows_labels: bool = True,
        http10: bool = False,
    ) -> None:
        self.endpoint: Final = endpoint
        self.tenant: Final = tenant
        self.service_class: Final = service_class
        self.kind: Final = kind
        self.stream: Final = stream
        self.seconds: Final = seconds
        self.size: Final = size
        self.has_media: Final = has_media
        self.choices: Final = choices
        self.output: Final = output
        self.is_timed: Final = is_timed
        self.is_hurried: Final = is_hurried
        self.is_lookup: Final = is_lookup
        self.is_copy: Final = is_copy
        self.repeatable: Final = repeatable
        self.stored: Final = stored
        self.asked: Final = asked
        self.shows_labels: Final = shows_labels
        self.http10: Final = http10

    def __repr__(self) -> str:
        return f"<RequestSpec {self.endpoint.path} of {self.tenant.name or 'anyone'} as {self.service_class.name}>"

    def copied(self, tenant: LiveTenant, seconds: float) -> "RequestSpec":
        """Return what a copy of the request asks for, which nobody waits for: on the account of this tenant."""
        return RequestSpec(
            self.endpoint,
            tenant,
            self.service_class,
            self.kind,
            stream=self.stream,
            seconds=seconds,
            size=self.size,
            has_media=self.has_media,
            choices=self.choices,
            output=self.output,
            is_copy=True,
            http10=self.http10,
        )


def understand(
    request: Request,
    body: Body,
    model: LiveModel,
    version: LiveVersion,
    service_class: ServiceClass,
    *,
    stored: StoredResponses | None,
    repeatable: bool,
    shows_labels: bool,
) -> RequestSpec:
    """Read a request for a version of a model; raises InvalidRequest."""
    head, total, output = request.head, model.timeouts.total, 0
    endpoint, most = cast(Endpoint, head.endpoint), None
    if not endpoint.is_plain:
        most = body.max_tokens
        output = version.capped(most or int(model.memory.prompts.output))
    seconds = seconds_for(head.timeout, total)
    return RequestSpec(
        endpoint,
        cast(LiveTenant, request.caller),
        service_class,
        model.memory.kinds.of(endpoint.path, service_class.name, most),
        stream=body.stream,
        seconds=seconds,
        size=len(request.body) - body.media,
        has_media=body.media > 0,
        choices=body.choices,
        output=output,
        is_timed=head.timeout is not None,
        is_hurried=seconds < total,
        repeatable=repeatable,
        stored=stored,
        asked=body.value("model") if endpoint.is_json and not model.echo_served_model else None,
        shows_labels=shows_labels,
        http10=request.http10,
    )


def seconds_for(given: bytes | None, limit: float) -> float:
    """Return how long the request may take: the route's total, or less when `x-request-timeout` says so."""
    if given is None:
        return limit
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        what = "`x-request-timeout` must be a number of seconds above 0, such as 2.5"
        raise InvalidRequest(what, param="x-request-timeout")
    return min(seconds, limit)


def claim_of(spec: RequestSpec, body: Body, model: LiveModel, prompt: int) -> Claim:
    """Return what the request asks of a backend's slots: its `prompt`, in tokens, and room for its answers."""
    kind, output, kv = spec.kind, spec.output, prompt
    if not spec.endpoint.is_plain:
        answer = kind.room(output, int(model.memory.prompts.output)) if body.max_tokens else kind.longest or output
        kv += min(body.generated, _AT_ONCE) * answer
    return Claim(kv, spec.service_class.priority, sheddable=spec.service_class.sheddable, kind=kind)


class Charge:
    """What a tenant with limits was charged for a request at first; `shown` are fields that tell what it has left."""

    __slots__ = ("_reserved", "_tenant", "shown")

    def __init__(self, tenant: LiveTenant, tokens: int, now: float) -> None:
        """Charge the tenant; raises RateLimited."""
        tenant.reserve(tokens, now)
        self._tenant = tenant
        self._reserved = tokens
        self.shown = tenant.shown()

    def settle(self, tokens: int) -> None:
        """Charge for what was really used instead."""
        self._tenant.quota.settle(self._reserved, tokens)
