"""How one process is run, as opposed to what it routes."""

from dataclasses import dataclass, field
from pathlib import Path

from gateway.config.itself import Listening
from gateway.control.drain import DrainTimes
from gateway.discovery.kubernetes.cluster import ClusterSettings
from gateway.wire.edge import Edge
from gateway.wire.guard import Limits
from gateway.wire.long_event import MAX_EVENT
from gateway.wire.tls import Credentials, Door


@dataclass(frozen=True, slots=True)
class Tls:
    """The files by which a listener speaks TLS; without a certificate it speaks none.

    With `client_ca` it takes only clients whose certificate one of these authorities has signed.
    """

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        if self.certificate is None and (self.key or self.client_ca):
            raise ValueError("a TLS key or a client CA needs a TLS certificate too")

    def __bool__(self) -> bool:
        return self.certificate is not None

    def door(self, seconds: float) -> Door | None:
        """Return how connections come in, in so many seconds, None without TLS; its files are still to be read."""
        if self.certificate is None:
            return None
        return Door(Credentials(self.certificate, self.key, self.client_ca), seconds)


@dataclass(frozen=True, slots=True)
class Settings:
    """How one process is run, as opposed to what it routes. Port 0 means any free one.

    With `shares_output` other processes write to the same standard output. `state` is where counts outlive the process;
    None is the user's own folder, or nowhere when that cannot be used. `dns_server` is asked for backends under `dns`
    in the routes; None is the system's own servers. `kubernetes` says how the API server of a cluster is found. `table`
    is how the supervisor named the table that its workers share; None where there is none.
    """

    routes: Path
    host: str = "127.0.0.1"
    port: int = 8080
    admin_host: str = "127.0.0.1"
    admin_port: int = 9000
    admin_token: str | None = field(default=None, repr=False)
    admin_token_file: Path | None = None
    tls: Tls = field(default_factory=Tls)
    admin_tls: Tls = field(default_factory=Tls)
    access_log: bool = True
    shares_output: bool = False
    state: str | None = "memory://"
    alert_webhook: str | None = field(default=None, repr=False)
    otlp_endpoint: str | None = None
    trace_ratio: float = 0.01
    drain: DrainTimes = field(default_factory=DrainTimes)
    limits: Limits = field(default_factory=Limits)
    max_event: int = MAX_EVENT
    edge: Edge = field(default_factory=Edge)
    dns_server: tuple[str, int] | None = None
    kubernetes: ClusterSettings = field(default_factory=ClusterSettings)
    table: str | None = None

    @property
    def tls_by_listener(self) -> tuple[tuple[str, Tls], ...]:
        """The TLS of each listener, by its name."""
        return ("data", self.tls), ("admin", self.admin_tls)

    @property
    def listeners(self) -> tuple[Listening, ...]:
        """Where this gateway listens: no backend may be there."""
        return Listening(self.host, self.port), Listening(self.admin_host, self.admin_port)
