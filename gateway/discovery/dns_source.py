"""Targets from DNS: every address of a name, or every SRV record. What is silent or fails changes nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import dns.exception
import dns.resolver

from gateway.clock import Clock
from gateway.config.addresses import authority
from gateway.config.origins import DnsOrigin
from gateway.discovery.dns_answers import AnswerHistory, until_next, until_retry
from gateway.discovery.one_line import one_line
from gateway.discovery.target import Publish, Target
from gateway.threads import in_thread

PATIENCE: Final = 5.0
"""Seconds that all servers of names together have to answer one question."""
_PAYLOAD: Final = 1232

MakeResolver = Callable[[], dns.resolver.Resolver]


@dataclass(frozen=True, slots=True)
class Found:
    """The hosts and ports that a name leads to, none where DNS says that there is nothing; for `ttl` seconds."""

    addresses: frozenset[tuple[str, int]]
    ttl: float = 0.0
    nothing: str = ""


def system_resolver(server: tuple[str, int] | None = None) -> dns.resolver.Resolver:
    """Return what asks as the system's own resolver would, with its search list; or asks one `server` alone."""
    try:
        resolver = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        if server is None:
            raise
        resolver = dns.resolver.Resolver(configure=False)
    if server is not None:
        resolver.nameservers, resolver.port = [server[0]], server[1]
    resolver.use_edns(0, 0, _PAYLOAD)
    resolver.lifetime = PATIENCE
    return resolver


class DnsSource:
    """Asks for one name as often as its TTL says. Other sources are asked in threads of their own, as this one is."""

    def __init__(self, origin: DnsOrigin, clock: Clock, resolver: MakeResolver = system_resolver) -> None:
        self.problem = ""
        self.errors = 0
        self._origin = origin
        self._clock = clock
        self._resolver = resolver
        self._history: AnswerHistory[tuple[str, int]] = AnswerHistory()
        self._failures = 0

    def __repr__(self) -> str:
        return f"<DnsSource {self._origin}{': ' if self.problem else ''}{self.problem}>"

    async def run(self, publish: Publish) -> None:
        """Ask until cancelled."""
        while True:
            pause = await self.ask(publish)
            await asyncio.sleep(pause)

    async def ask(self, publish: Publish) -> float:
        """Ask once; return the seconds until it is time to ask again."""
        try:
            found = await in_thread(self._look_up, f"lookup {self._origin}")
        except (OSError, RuntimeError, dns.exception.DNSException) as error:
            self._failures += 1
            self.errors += 1
            self.problem = _words(error)
            return until_retry(self._failures)
        if not found.addresses:
            self._failures += 1
            self.problem = found.nothing
            if self._history.take_nothing(self._clock()):
                publish(())
            return until_retry(self._failures)
        self._failures, self.problem = 0, ""
        known = self._history.take(found.addresses, self._clock())
        publish(tuple(map(_target, sorted(known))))
        return until_next(found.ttl)

    def _look_up(self) -> Found:
        """Ask the servers of names; blocks."""
        return look_up(self._resolver(), self._origin)


def look_up(resolver: dns.resolver.Resolver, origin: DnsOrigin) -> Found:
    """Return what a name leads to; raises DNSException where that cannot be told. Blocks."""
    kinds = ("SRV",) if origin.port is None else ("A", "AAAA")
    for kind in kinds:
        try:
            answer = resolver.resolve(origin.name, kind, search=True)
        except dns.resolver.NXDOMAIN:
            return Found(frozenset(), nothing="the name does not exist (NXDOMAIN)")
        except dns.resolver.NoAnswer:
            continue
        if origin.port is None:
            addresses = _services(answer)
        else:
            addresses = {(each, origin.port) for each in map(str, answer) if _is_usable(each)}
        if addresses:
            return Found(frozenset(addresses), answer.rrset.ttl if answer.rrset is not None else 0.0)
    return Found(frozenset(), nothing=f"the name has no {' or '.join(kinds)} record of use")


def _services(answer: dns.resolver.Answer) -> set[tuple[str, int]]:
    """Return the services of SRV records: of those that come first by their priority; the root is none (RFC 2782)."""
    records = [each for each in answer if str(each.target) != "."]
    first = min((each.priority for each in records), default=0)
    return {(str(each.target).rstrip(".").lower(), each.port) for each in records if each.priority == first}


def _is_usable(address: str) -> bool:
    found = ip_address(address)
    return not (found.is_unspecified or found.is_multicast)


def _target(address: tuple[str, int]) -> Target:
    return Target(authority(*address), *address)


def _words(error: Exception) -> str:
    if isinstance(error, dns.resolver.LifetimeTimeout):
        return f"no answer in {PATIENCE:g} s"
    if isinstance(error, dns.resolver.NoNameservers):
        return one_line("; ".join(dict.fromkeys(_failed(*each[:4]) for each in error.kwargs["errors"])))
    return one_line(str(error)) or type(error).__name__


def _failed(server: str | None, _by_tcp: bool, port: int, failure: Exception | str) -> str:
    """Return what a name server answered, or how it failed; dnspython shows one as `Do53:10.0.0.2@53`."""
    address = str(server).removeprefix("Do53:").partition("@")[0]
    return f"name server {authority(address, port)}: {failure}"
