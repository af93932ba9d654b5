"""Routes with the backends that were found in the places of those that name where to look."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from gateway.config.addresses import Address
from gateway.config.origins import Origin
from gateway.config.table import BackendSpec, Discovery, PoolSpec, RouteTable
from gateway.discovery.target import Target, TargetState

MOST_CONCURRENCY: Final = 1_000_000


def origins_of(routes: RouteTable) -> dict[Origin, list[str]]:
    """Return where backends are to be found, with the names of the pools that they are for."""
    found: dict[Origin, list[str]] = {}
    for pool in routes.pools.values():
        for each in pool.discovered:
            names = found.setdefault(each.origin, [])
            if pool.name not in names:
                names.append(pool.name)
    return found


def expanded(routes: RouteTable, targets: Callable[[Origin], Iterable[Target]]) -> RouteTable:
    """Return routes whose pools have the backends of `targets` too; routes that name all backends are returned."""
    if not any(pool.discovered for pool in routes.pools.values()):
        return routes
    pools = {name: _expanded(pool, targets) if pool.discovered else pool for name, pool in routes.pools.items()}
    return replace(routes, pools=MappingProxyType(pools))


def is_chosen(found: Discovery, target: Target) -> bool:
    """Whether a pool takes a target: it has every label of `where`."""
    return set(found.where) <= set(target.labels)


def _expanded(pool: PoolSpec, targets: Callable[[Origin], Iterable[Target]]) -> PoolSpec:
    """Return a pool with what was found. What the routes name themselves comes first, then what is to get requests."""
    backends = {spec.id: spec for spec in pool.backends}
    for each in pool.discovered:
        for target in targets(each.origin):
            if is_chosen(each, target):
                spec = _backend(pool, each, target)
                known = backends.get(spec.id)
                if known is None or (known.leaving and not spec.leaving):
                    backends[spec.id] = spec
    return replace(pool, backends=tuple(backends.values()))


def _backend(pool: PoolSpec, discovery: Discovery, target: Target) -> BackendSpec:
    return BackendSpec(
        pool=pool.name,
        url=Address("https" if target.tls else "http", target.host, target.port, "").url,
        host=target.host,
        port=target.port,
        tls=target.tls,
        max_concurrency=_told(discovery, target) or discovery.max_concurrency,
        priority_scheduling=pool.priority_scheduling,
        pre_warm=pool.pre_warm,
        api_key=discovery.api_key,
        key=target.key,
        leaving=target.state is TargetState.DRAINING,
    )


def _told(discovery: Discovery, target: Target) -> int | None:
    """Return the `max_concurrency` that a label says, None where it says none that can be."""
    text = dict(target.labels).get(discovery.max_concurrency_label or "", "")
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_CONCURRENCY))):
        return None
    return min(int(text), MOST_CONCURRENCY) or None
