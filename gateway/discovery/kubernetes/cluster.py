"""Where the API server of a Kubernetes cluster is, and what it takes to be let in."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.backends.roots import system_roots
from gateway.config.addresses import is_loopback, parse_address
from gateway.config.problems import InvalidValueError

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts the token of a pod's service account, its namespace and the cluster's authority."""
_OUTSIDE: Final = (
    "this process does not run in a pod of a Kubernetes cluster (KUBERNETES_SERVICE_HOST is not set): "
    "set --kubernetes-api, for example to the http://127.0.0.1:8001 of `kubectl proxy`"
)


class NoClusterError(Exception):
    """There is no API server to ask. It says why, and what to set."""


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What the process was told of the API server. Without a URL it is the one of the cluster that it runs in.

    These are settings of the process, not of the routes: a route file must not decide where a token is sent.
    """

    api: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for an address that is none, or to which a token must not be sent."""
        if self.api is None:
            return
        try:
            address = parse_address(self.api)
        except InvalidValueError as error:
            raise ValueError(
                f"--kubernetes-api: the address of the Kubernetes API server {error}, such as https://10.0.0.1:6443"
            ) from None
        if self.token_file is not None and address.scheme != "https" and not is_loopback(address.host):
            raise ValueError("--kubernetes-api must be https://, since a token is sent there")


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server. `namespace` is that of the gateway itself; the files are read again for each connection."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    namespace: str = "default"

    def token(self) -> str | None:
        """Return the token as the file has it now: the kubelet renews it before it expires. Raises OSError."""
        if self.token_file is None:
            return None
        return self.token_file.read_text("ascii", "replace").strip()

    def trust(self) -> ssl.SSLContext:
        """Return what the API server's certificate is verified with. Raises OSError, of which SSLError is one."""
        return system_roots() if self.ca_file is None else ssl.create_default_context(cafile=self.ca_file)


def find_cluster(settings: ClusterSettings, environment: Mapping[str, str], account: Path = ACCOUNT) -> Cluster:
    """Return the API server to ask. Raises NoClusterError.

    The account's token is for its own cluster: an API server that the settings name gets only what they name.
    """
    namespace = _namespace(account)
    if settings.api is not None:
        return Cluster(parse_address(settings.api).url, settings.token_file, settings.ca_file, namespace)
    host = environment.get("KUBERNETES_SERVICE_HOST")
    if not host:
        raise NoClusterError(_OUTSIDE)
    port = environment.get("KUBERNETES_SERVICE_PORT_HTTPS") or environment.get("KUBERNETES_SERVICE_PORT") or "443"
    try:
        address = parse_address(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")
    except InvalidValueError as error:
        raise NoClusterError(
            f"KUBERNETES_SERVICE_HOST and _PORT give no address: {host[:100]}, {port[:100]}"
        ) from error
    token_file, ca_file = settings.token_file or account / "token", settings.ca_file or account / "ca.crt"
    return Cluster(address.url, token_file, ca_file, namespace)


def _namespace(account: Path) -> str:
    try:
        return (account / "namespace").read_text("ascii", "replace").strip() or "default"
    except OSError:
        return "default"
