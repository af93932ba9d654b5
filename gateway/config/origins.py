"""Where backends come from that the routes do not name one by one."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class DnsOrigin:
    """A name of DNS. Without a port it is a name of SRV records, which have ports; else of A and AAAA records."""

    name: str
    port: int | None = None

    def __str__(self) -> str:
        return f"dns {self.name}" if self.port is None else f"dns {self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class FileOrigin:
    """A file of targets, in the format of Prometheus' `file_sd_configs`."""

    path: str

    def __str__(self) -> str:
        return f"file {self.path}"


@dataclass(frozen=True, slots=True)
class KubernetesOrigin:
    """A Kubernetes Service: its EndpointSlices.

    `namespace` is "" for the gateway's own. `port` is a port's name or number, "" for the only one.
    """

    service: str
    namespace: str = ""
    port: str = ""

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        return f"kubernetes {_within(self.namespace)}{self.service}{port}"


@dataclass(frozen=True, slots=True)
class InferencePoolOrigin:
    """A Kubernetes InferencePool: the pods that it selects, on each of its target ports. See KubernetesOrigin."""

    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"inference_pool {_within(self.namespace)}{self.name}"


Origin: TypeAlias = DnsOrigin | FileOrigin | KubernetesOrigin | InferencePoolOrigin
"""What one source asks. Origins that are equal are asked once, whatever pools use them."""


def _within(namespace: str) -> str:
    return f"{namespace}/" if namespace else ""
