"""What asks each kind of origin."""

from dataclasses import dataclass
from functools import partial

from gateway.clock import Clock
from gateway.config.origins import DnsOrigin, FileOrigin, Origin
from gateway.discovery.dns_source import DnsSource, system_resolver
from gateway.discovery.file_source import FileSource
from gateway.discovery.target import Source


@dataclass(frozen=True, slots=True)
class SourceFactory:
    """Makes sources. `dns_server` is asked for names instead of the system's own, where there is one."""

    clock: Clock
    dns_server: tuple[str, int] | None = None

    def __call__(self, origin: Origin) -> Source:
        """Return what asks an origin."""
        match origin:
            case DnsOrigin():
                return DnsSource(origin, self.clock, partial(system_resolver, self.dns_server))
            case FileOrigin():
                return FileSource(origin)
            case _:
                raise NotImplementedError(f"no source for {origin}")
