"""What is read of the objects of the Kubernetes API. All other fields are skipped; Go writes empty lists as null."""

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

T = TypeVar("T", bound="Resource")


class Metadata(msgspec.Struct, rename="camel"):
    """The metadata of an object."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class Resource(msgspec.Struct, rename="camel"):
    """An object, of which this alone is read in a bookmark."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)


class Conditions(msgspec.Struct, rename="camel"):
    """The conditions of an endpoint. None is unknown, which the API defines as set out in `endpoints.py`."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Reference(msgspec.Struct, rename="camel"):
    """The object behind an endpoint, nearly always a pod."""

    uid: str | None = None


class Endpoint(msgspec.Struct, rename="camel"):
    """One engine in a slice."""

    addresses: list[str] | None = None
    conditions: Conditions | None = None
    target_ref: Reference | None = None
    zone: str | None = None


class EndpointPort(msgspec.Struct, rename="camel"):
    """A port of every endpoint in a slice: that of the pods, under the name that it has in the Service."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = None
    app_protocol: str | None = None


class EndpointSlice(Resource, rename="camel"):
    """A part of the endpoints of a Service."""

    address_type: str = ""
    endpoints: list[Endpoint] | None = None
    ports: list[EndpointPort] | None = None


class PodCondition(msgspec.Struct, rename="camel"):
    """One condition of a pod, such as `Ready`."""

    type: str = ""
    status: str = ""


class PodStatus(msgspec.Struct, rename="camel"):
    """What the kubelet says of a pod."""

    conditions: list[PodCondition] | None = None
    pod_ip: str | None = msgspec.field(name="podIP", default=None)


class Pod(Resource, rename="camel"):
    """A pod."""

    status: PodStatus | None = None


class Selector(msgspec.Struct, rename="camel"):
    """Which pods are in a pool."""

    match_labels: dict[str, str] | None = None


class PoolPort(msgspec.Struct, rename="camel"):
    """A port on which every pod of a pool runs an engine."""

    number: int = 0


class PoolSpec(msgspec.Struct, rename="camel"):
    """What a pool asks for."""

    selector: Selector | None = None
    target_ports: list[PoolPort] | None = None
    app_protocol: str | None = None


class InferencePool(Resource, rename="camel"):
    """An InferencePool of the Gateway API Inference Extension."""

    spec: PoolSpec | None = None


class ListMetadata(msgspec.Struct, rename="camel"):
    """The metadata of one page of a list."""

    resource_version: str = ""
    more: str | None = msgspec.field(name="continue", default=None)


class Page(msgspec.Struct, Generic[T], rename="camel"):
    """One page of a list."""

    metadata: ListMetadata = msgspec.field(default_factory=ListMetadata)
    items: list[T] | None = None


class Event(msgspec.Struct, rename="camel"):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class StatusDetails(msgspec.Struct, rename="camel"):
    """More about a failure."""

    retry_after_seconds: float | None = None


class Status(msgspec.Struct, rename="camel"):
    """How the API server tells of a failure: as the body of an answer, or in a watch."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails | None = None


@dataclass(frozen=True, slots=True)
class Collection(Generic[T]):
    """Objects of one kind in one namespace that are listed and watched together, by labels or a field."""

    kind: type[T]
    group: str
    version: str
    plural: str
    namespace: str
    labels: str = ""
    fields: str = ""

    @property
    def path(self) -> str:
        """The path of the collection at the API server."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{self.namespace}/{self.plural}"

    @property
    def selection(self) -> dict[str, str]:
        """The parameters that choose the objects."""
        chosen = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: value for name, value in chosen.items() if value}


SERVICE_NAME: Final = "kubernetes.io/service-name"


def slices_of(service: str, namespace: str) -> Collection[EndpointSlice]:
    """Return the EndpointSlices of a Service."""
    labels = f"{SERVICE_NAME}={service}"
    return Collection(EndpointSlice, "discovery.k8s.io", "v1", "endpointslices", namespace, labels=labels)


def pool_named(name: str, namespace: str) -> Collection[InferencePool]:
    """Return the collection that has one InferencePool, or none."""
    group, fields = "inference.networking.k8s.io", f"metadata.name={name}"
    return Collection(InferencePool, group, "v1", "inferencepools", namespace, fields=fields)


def pods_with(labels: str, namespace: str) -> Collection[Pod]:
    """Return the pods that a selector chooses."""
    return Collection(Pod, "", "v1", "pods", namespace, labels=labels)
