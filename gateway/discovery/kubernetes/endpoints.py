"""From objects of the Kubernetes API to targets: pure functions over complete sets of objects."""

import ipaddress
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from gateway.config.addresses import authority
from gateway.discovery.kubernetes.resources import (
    SERVICE_NAME,
    Conditions,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    InferencePool,
    Pod,
    PoolSpec,
)
from gateway.discovery.target import Target, TargetState

_FAMILIES: Final = {"IPv4": 4, "IPv6": 6}
_PREFERRED_PORT: Final = "http"
_H2C: Final = "kubernetes.io/h2c"
_ZONE: Final = "topology.kubernetes.io/zone"
_LONGEST_LABEL: Final = 253
_NOT_LABELS: Final = ("endpoints.kubernetes.io/", "endpointslice.kubernetes.io/", "kubectl.kubernetes.io/")
"""Prefixes of what controllers note for themselves: the time of the last change, the last manifest."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the objects say: targets by key, among them those that get no requests, and what is wrong with them."""

    targets: dict[str, Target]
    unready: frozenset[str] = frozenset()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Listed:
    """One endpoint in one slice."""

    target: Target
    family: int
    serving: bool
    terminating: bool


def of_slices(slices: Collection[EndpointSlice], service: str, port: str) -> Found:
    """Return the endpoints of a Service on one port, from all its slices.

    An endpoint is its pod (`targetRef`) and port; without a `targetRef`, its address and port. It may be in several
    slices while it moves between them: it terminates if one of them says so, else it is ready if one says so. An
    endpoint with addresses of both families has its IPv4 address; so have all of a Service where pods are not named.
    """
    if not slices:
        return Found({}, problem=_no_slices(service))
    ports = [each for part in slices for each in _tcp(part)]
    wanted, problem = _choose(ports, port)
    listed: dict[str, list[_Listed]] = {}
    for part in sorted(slices, key=lambda each: each.metadata.name):
        for one in _in_slice(part, wanted):
            listed.setdefault(one.target.key, []).append(one)
    families = {one.family for each in listed.values() for one in each}
    targets, unready = {}, set()
    for key, each in listed.items():
        family = min(one.family for one in each)
        if key == authority(each[0].target.host, each[0].target.port) and family != min(families):
            continue  # the same engines, by their other addresses
        target = _merged([one for one in each if one.family == family])
        if target is None:
            unready.add(key)
        else:
            targets[key] = target
    return Found(targets, frozenset(unready), problem)


def _no_slices(service: str) -> str:
    return f"there is no EndpointSlice with the label {SERVICE_NAME}={service}: check the Service's name and namespace"


def _tcp(part: EndpointSlice) -> Iterator[EndpointPort]:
    for port in part.ports or ():
        if port.protocol in {None, "TCP"}:
            yield port


def _choose(ports: Iterable[EndpointPort], wanted: str) -> tuple[str, str]:
    """Return the port to use, by name or number, and what is wrong with it."""
    names = {port.name or "": port for port in ports}
    if not names:
        return wanted, ""
    if wanted:
        meant = [port for name, port in names.items() if wanted in {name, str(port.port)} or _is_any(port, wanted)]
        problem = _spoken(meant[0].app_protocol) if meant else f"there is no port {wanted}, but {_described(names)}"
        return wanted, problem
    if None in {port.port for port in names.values()}:
        return "", "the EndpointSlices leave the port open: give its number as `port`"
    chosen = _PREFERRED_PORT if _PREFERRED_PORT in names else next(iter(names))
    if len(names) == 1 or chosen == _PREFERRED_PORT:
        return chosen, _spoken(names[chosen].app_protocol)
    return chosen, f"there are several ports: {_described(names)}. Name one as `port`; {chosen} is used until then"


def _described(names: dict[str, EndpointPort]) -> str:
    return ", ".join(f"{name or 'without a name'} ({port.port})" for name, port in names.items())


def _spoken(protocol: str | None) -> str:
    return "the engines are said to speak only HTTP/2 (appProtocol h2c): HTTP/1.1 is used" if protocol == _H2C else ""


def _in_slice(part: EndpointSlice, wanted: str) -> Iterator[_Listed]:
    family = _FAMILIES.get(part.address_type)
    port = next((each for each in _tcp(part) if wanted == (each.name or "")), None)
    port = port or next((each for each in _tcp(part) if wanted == str(each.port) or _is_any(each, wanted)), None)
    if family is None or port is None or (port.port is None and not _is_any(port, wanted)):
        return
    labels = labels_of(part.metadata.labels, part.metadata.annotations)
    number = int(wanted) if port.port is None else port.port
    for endpoint in part.endpoints or ():
        address = _address(endpoint.addresses)
        if address is None:
            continue
        uid = endpoint.target_ref and endpoint.target_ref.uid
        key = f"{uid}:{number}" if uid else authority(address, number)
        tls = port.app_protocol == "https"
        target = Target(key, address, number, tls, labels=_zoned(labels, endpoint))
        serving, terminating = _state(endpoint.conditions or Conditions())
        yield _Listed(target, family, serving, terminating)


def ending_in(part: EndpointSlice) -> Iterator[str]:
    """Yield the endpoints of a slice that are not ready, or terminate: their pods, or else their addresses."""
    for endpoint in part.endpoints or ():
        serving, terminating = _state(endpoint.conditions or Conditions())
        address = _address(endpoint.addresses) if terminating or not serving else None
        if address is not None:
            yield (endpoint.target_ref and endpoint.target_ref.uid) or subject_of(authority(address, 0))


def subject_of(key: str) -> str:
    """Return which pod, or which address, the key of an endpoint names, whatever its port."""
    return key.rpartition(":")[0]


def _is_any(port: EndpointPort, wanted: str) -> bool:
    """Whether a slice that someone wrote by hand leaves the port open, and the routes give a number."""
    return port.port is None and wanted.isascii() and wanted.isdigit()


def _address(addresses: list[str] | None) -> str | None:
    """Return the first address, as kube-proxy does; others have no meaning.

    The API server refuses loopback and link-local addresses in slices, which could name what only this machine or
    its cloud may reach. Link-local ones are refused here, too.
    """
    try:
        address = ipaddress.ip_address(addresses[0] if addresses else "")
    except ValueError:
        return None
    return None if address.is_link_local or address.is_multicast or address.is_unspecified else str(address)


def _state(conditions: Conditions) -> tuple[bool, bool]:
    """Return whether an endpoint serves and whether it terminates.

    A `ready` that is not known is true, and a `serving` that is not known is `ready`. `ready` is false for all that
    terminate, so `serving` counts there; it is true where a Service publishes addresses that are not ready.
    """
    ready = conditions.ready is not False
    serving = ready if conditions.serving is None else conditions.serving
    terminating = conditions.terminating is True
    return (serving if terminating else ready), terminating


def _merged(listed: list[_Listed]) -> Target | None:
    """Return what several slices say of one endpoint; None where it gets no requests."""
    terminating = any(one.terminating for one in listed)
    relevant = [one for one in listed if one.terminating == terminating and one.serving]
    if not relevant:
        return None
    return replace(relevant[0].target, state=TargetState.DRAINING if terminating else TargetState.READY)


def labels_of(labels: dict[str, str] | None, annotations: dict[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Return labels and annotations by name; a label wins over an annotation of its name."""
    both = {**(annotations or {}), **(labels or {})}
    kept = {name: value for name, value in both.items() if len(value) <= _LONGEST_LABEL}
    return tuple(sorted((name, value) for name, value in kept.items() if not name.startswith(_NOT_LABELS)))


def _zoned(labels: tuple[tuple[str, str], ...], endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((*labels, (_ZONE, endpoint.zone)))) if endpoint.zone else labels


def of_pods(pool: InferencePool, pods: Iterable[Pod]) -> Found:
    """Return the endpoints of a pool: each of its ports on each of its pods."""
    spec = pool.spec or PoolSpec()
    ports = [port.number for port in spec.target_ports or ()]
    targets: dict[str, Target] = {}
    unready: set[str] = set()
    for pod in sorted(pods, key=lambda each: each.metadata.name):
        status = pod.status
        address = _address([status.pod_ip]) if status and status.pod_ip else None
        ready = _is_ready(pod)
        state = TargetState.DRAINING if pod.metadata.deletion_timestamp else TargetState.READY
        labels = labels_of(pod.metadata.labels, pod.metadata.annotations)
        for port in ports:
            key = f"{pod.metadata.uid}:{port}"
            if address is None or not ready:
                unready.add(key)
            else:
                targets[key] = Target(key, address, port, state=state, labels=labels)
    return Found(targets, frozenset(unready), _spoken(spec.app_protocol))


def _is_ready(pod: Pod) -> bool:
    conditions = (pod.status and pod.status.conditions) or ()
    return any(each.type == "Ready" and each.status == "True" for each in conditions)


def is_ending(pod: Pod) -> bool:
    """Whether a pod is being deleted, or is not ready."""
    return pod.metadata.deletion_timestamp is not None or not _is_ready(pod)


def selector_of(pool: InferencePool) -> str | None:
    """Return the labels that choose a pool's pods, as a list of pods is asked for; None where it has none."""
    labels = (pool.spec and pool.spec.selector and pool.spec.selector.match_labels) or {}
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items())) or None
