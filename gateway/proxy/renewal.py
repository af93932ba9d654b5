"""Following a reload: what waits, or is tried again, goes where the new routes send a request that comes now."""

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.proxy.live import LiveModel, LiveTable
from gateway.proxy.routed_request import RoutedRequest
from gateway.proxy.similar import unknown_model
from gateway.proxy.steering import route_for, served
from gateway.wire.slices import Work


def renewed(routed: RoutedRequest, exchange: Exchange, chance: float) -> RoutedRequest | GatewayError:
    """Return a request that was understood under other routes as those that hold now send it, itself under the same.

    It keeps its version where that is still there and serves, or was asked for by its client; else another one serves
    it as a newcomer, which `chance` (0 to 1) draws where its own is gone. Where there is no place for it any more, what
    to tell its client is returned.
    """
    model = routed.model
    while model.successor is not None:
        model = model.successor
    if model.is_gone:
        return unknown_model(exchange.model)
    if model is routed.model:
        return routed
    try:
        return _moved(routed, exchange, model, chance)
    except GatewayError as error:
        return error


def _moved(routed: RoutedRequest, exchange: Exchange, model: LiveModel, chance: float) -> RoutedRequest:
    version = model.versions.get(routed.version.name)
    if version is None or not exchange.forced:
        version = served(model, version or model.traffic.split.draw(chance), exchange)
    message, claim, route = routed.message, routed.claim, version.routes[-1]
    given = message.given
    if given is not None:
        if version.served_model != routed.version.served_model:
            message.write(given, version)
        if model.rules:
            route = route_for(model, version, routed.spec.endpoint, exchange, given)
    if claim.only is not None:
        kept = [backend for backend in version.backends if backend.health is claim.only]
        claim.only = None
        if kept:
            route = version.pin(claim, kept[0])
    moved = routed.moved(model, version, route)
    exchange.version, exchange.objective = version.name, moved.objective.name
    return moved


def renewing(before: LiveTable, after: LiveTable, clock: Clock) -> Work[None]:
    """Move everyone who waits under the routes `before` a reload to their places under those `after` it."""
    waiting = [
        entry for model in before for line in model.memory.lines.values() if line.queue.size for entry in line.queue
    ]
    for entry in waiting:
        entry.item.renew(clock())
        yield
    for model in after:
        for line in list(model.memory.lines.values()):
            if line.queue.size:
                line.freed(clock())
        yield


def outlived(before: LiveTable, after: LiveTable) -> None:
    """Tell the models of the routes before a reload which ones have taken their place."""
    by_name: dict[str, LiveModel] = {model.name: model for model in after}
    for model in before:
        model.successor = by_name.get(model.name)
        model.is_gone = model.successor is None
