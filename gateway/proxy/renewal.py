"""Following a reload: what waits, or is tried again, goes where the new routes send a request that comes now."""

import re

from gateway.errors import GatewayError, ModelNotFound
from gateway.exchange import BodyKind, Exchange
from gateway.proxy.live import LiveModel, LiveTable, LiveVersion
from gateway.proxy.order import Order
from gateway.proxy.steering import route_for
from gateway.wire.body import Body, read_json
from gateway.wire.multipart import read_multipart

_CONTENT_TYPE = re.compile(rb"(?im)^content-type:[ \t]*+([^\r\n]*+)")


def renew(order: Order, exchange: Exchange, chance: float) -> GatewayError | None:
    """Give a request that was understood under other routes its place in those that hold now.

    It keeps its version where that is still there and serves; else `chance` (0 to 1) draws one as for a newcomer.
    Returns what to tell its client where there is no place for it any more.
    """
    model = order.model
    while model.successor is not None:
        model = model.successor
    if model.is_gone:
        return ModelNotFound(f"the model `{exchange.model}` is not in the routes any more", param="model")
    if model is not order.model:
        try:
            _move(order, exchange, model, chance)
        except GatewayError as error:
            return error
    return None


def _move(order: Order, exchange: Exchange, model: LiveModel, chance: float) -> None:
    version = model.versions.get(order.version.name)
    if version is None or not version.is_served:
        drawn = model.split.draw(chance)
        version = drawn if version is None or drawn.is_served else version
    if version.served_model != order.version.served_model:
        order.body = _renamed(order, order.body, version)
        if order.urgent_body is not None:
            order.urgent_body = _renamed(order, order.urgent_body, version)
    order.move(model, version)
    exchange.version, exchange.objective = version.name, order.objective.name
    if model.rules:
        order.route = route_for(model, version, order.endpoint, exchange, _read(order, order.body))


def renew_waiting(before: LiveTable, after: LiveTable, now: float) -> None:
    """Move everyone who waits under the routes `before` a reload to their places under those `after` it."""
    waiting = [entry for model in before for line in model.memory.lines.values() for entry in line.queue]
    for entry in waiting:
        entry.item.renew(now)
    for model in after:
        for line in model.memory.lines.values():
            line.freed(now)


def _read(order: Order, raw: bytes) -> Body:
    if order.endpoint.body is BodyKind.JSON:
        return read_json(raw)
    kind = _CONTENT_TYPE.search(order.fields)
    if kind is None:
        raise GatewayError("the form's boundary is not known any more")
    return read_multipart(raw, kind[1])


def _renamed(order: Order, raw: bytes, version: LiveVersion) -> bytes:
    served = version.served_json if order.endpoint.body is BodyKind.JSON else version.served_model.encode()
    return _read(order, raw).rewritten(served, add_usage=False)


def outlived(before: LiveTable, after: LiveTable) -> None:
    """Tell the models of the routes before a reload which ones have taken their place."""
    by_name: dict[str, LiveModel] = {model.name: model for model in after}
    for model in before:
        model.successor = by_name.get(model.name)
        model.is_gone = model.successor is None
