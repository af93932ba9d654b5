"""Steering one request: to a version that it sticks to, and along the first rule that it falls under."""

from collections.abc import Sequence
from math import inf

from gateway.errors import InvalidRequest
from gateway.exchange import Dialect, Endpoint, Exchange
from gateway.policy.routing.rules import Traits
from gateway.proxy.live import LiveModel
from gateway.proxy.live_version import LiveRoute, LiveVersion
from gateway.wire.body import Body
from gateway.wire.guard import Head


def version_for(model: LiveModel, exchange: Exchange, head: Head, body: Body, chance: float) -> LiveVersion:
    """Return the version that a request gets; raises InvalidRequest for one that may not be forced.

    A version that has no backend for it right now is passed over while another has one: a rollout costs no request.
    """
    if head.version is not None:
        exchange.forced = True
        return _forced(model, head.version.decode("latin-1"))
    split = model.traffic.split
    key = _key(model.sticky_by, exchange.tenant, head, body)
    exchange.sticky = key
    version = split.draw(chance) if key is None else split.place(key)
    return served(model, version, exchange)


def served(model: LiveModel, version: LiveVersion, exchange: Exchange) -> LiveVersion:
    """Return a version, or the one that serves in its stead."""
    other = model.traffic.stand_in(version)
    if other is None:
        return version
    exchange.stands_in = True
    return other


def route_for(model: LiveModel, version: LiveVersion, endpoint: Endpoint, exchange: Exchange, body: Body) -> LiveRoute:
    """Return the pools that a request may use, by the rules of its model."""
    rules = model.rules
    traits = Traits(
        endpoint=endpoint.path,
        prompt_tokens=exchange.prompt_estimate,
        max_tokens=0 if endpoint.dialect is Dialect.PLAIN else inf if body.max_tokens is None else body.max_tokens,
        service_class=exchange.service_class,
        tenant=exchange.tenant,
        tools=rules.asks_tools and body.has_tools,
        images=rules.asks_images and body.has_images,
    )
    return version.routes[rules.first_match(traits)]


def _forced(model: LiveModel, name: str) -> LiveVersion:
    if not model.version_header:
        raise InvalidRequest(
            f"the model `{model.name}` does not let clients choose a version", param="x-gateway-model-version"
        )
    version = model.versions.get(name)
    if version is None:
        there_are = ", ".join(model.versions)
        message = f"the model `{model.name}` has no version `{name[:64]}`; there are {there_are}"
        raise InvalidRequest(message, param="x-gateway-model-version")
    return version


def _key(sticky_by: Sequence[str], tenant: str, head: Head, body: Body) -> bytes | None:
    """Return what keeps a request where its like are, None when it has nothing of the kind."""
    for kind in sticky_by:
        if kind == "session" and head.session:
            return b"%b\0%b" % (tenant.encode(), head.session)
        if kind == "user" and (user := body.value("user")):
            return b"%b\0%b" % (tenant.encode(), user)
        if kind == "tenant" and tenant:
            return tenant.encode()
    return None
