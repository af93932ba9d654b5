"""The quotas that gateways on several machines share: each tells what it has charged, and hears of the others."""

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from heapq import nlargest
from typing import Final

from gateway.clock import Clock
from gateway.policy.admission.fleet_quota import Part, urgent_after
from gateway.policy.admission.quota import Bucket, Exceeded, Quota
from gateway.proxy.current import CurrentTable
from gateway.shared.private import PrivateQuotas
from gateway.shared.quota import MINUTE, News, SharedBucket, SharedQuota
from gateway.shared.table import Table
from gateway.state.redis_quotas import Charged, Heard, QuotaExchange, TenantCharged, TenantHeard
from gateway.state.store import StateError

_log = logging.getLogger(__name__)
INTERVAL: Final = 1.0
SPACING: Final = 0.02
"""Seconds between two exchanges, at least."""
AWAY: Final = 3.0
"""Seconds without an answer after which this gateway takes only its part of what is refilled."""
SHOWN: Final = 100
"""How many tenants are shown at most."""
_MICROSECONDS: Final = 1e6


@dataclass(frozen=True, slots=True)
class LimitUse:
    """One limit of a tenant as this machine sees it.

    `left` may be below 0. What was used `here` and `elsewhere` is of about the last minute; `heard` is for how many
    seconds this process has known nothing newer of it, None where it never did. `part` is how much of what is refilled
    this machine takes while it is alone, 0 to 1, None while it is not.
    """

    tenant: str
    limit: Exceeded
    allowed: int
    left: float
    here: float
    elsewhere: float
    heard: float | None
    part: float | None


@dataclass(frozen=True, slots=True)
class QuotaView:
    """The exchange of quotas as one process sees it: `heard` seconds ago, None for never; `problem` is "" if it works.

    It is `alone` while it goes on without the others. `limits` are of the tenants that have used most of theirs.
    """

    machine: str
    machines: int
    heard: float | None
    alone: bool
    problem: str
    limits: tuple[LimitUse, ...]


class _Kind:
    """One bucket of a tenant, and what was heard of it last."""

    __slots__ = ("bucket", "charged", "full_in", "part")

    def __init__(self, bucket: SharedBucket) -> None:
        self.bucket = bucket
        self.part = Part()
        self.charged = self.full_in = 0.0

    def hear(self, full_in: float, charged: float, size: int, elapsed: float | None) -> None:
        """Take what was heard, so long after the last time; None for the first, which tells of a minute."""
        own = (charged - self.charged) * MINUTE / size
        if elapsed is None:
            own, elapsed = min(own, full_in), MINUTE
        self.part.add(own, full_in - max(0.0, self.full_in - elapsed) - own, elapsed)
        self.charged, self.full_in = charged, full_in

    def used(self, size: int, now: float, ago: float) -> tuple[float, float]:
        """Return what was used here and elsewhere, where the others were heard so long `ago`."""
        here, elsewhere = self.part.after(ago)
        unheard = min(self.bucket.charged - self.bucket.heard, self.bucket.full_in(now) * size / MINUTE)
        return here * size / MINUTE + unheard, elsewhere * size / MINUTE


class _Tenant:
    """A tenant whose quota is shared."""

    __slots__ = ("at", "kinds", "name", "quota", "shared")

    def __init__(self, name: str, quota: Quota, shared: SharedQuota) -> None:
        self.name, self.quota, self.shared = name, quota, shared
        self.kinds = _Kind(shared.requests), _Kind(shared.tokens)
        self.at: float | None = None

    @property
    def buckets(self) -> tuple[Bucket | None, Bucket | None]:
        """Its limits."""
        return self.quota.requests, self.quota.tokens

    def limits(self) -> Iterator[tuple[Exceeded, Bucket, _Kind]]:
        """Yield the limits that it has."""
        names = Exceeded.REQUESTS, Exceeded.TOKENS
        for name, bucket, kind in zip(names, self.buckets, self.kinds, strict=True):
            if bucket is not None:
                yield name, bucket, kind

    def full_in(self, now: float) -> float:
        """Return seconds until all is left of its limits."""
        requests, tokens = self.kinds
        return max(requests.bucket.full_in(now), tokens.bucket.full_in(now))

    def is_full(self, now: float) -> bool:
        """Whether nothing is left to be told or heard of it."""
        return all(each.bucket.full_in(now) <= 0.0 and each.bucket.charged == each.bucket.heard for each in self.kinds)


class FleetQuotas:
    """Tells in the background what tenants with limits were charged, each second and sooner where little is left.

    Quotas are in the table of the machine's workers, which are then one `machine` to the others, or in memory of this
    process. `members` says how many machines take part, as of the last answer, which came at `heard_at`. `wanted` is
    set when an exchange has to come sooner than in a second.
    """

    def __init__(
        self, exchange: QuotaExchange, current: CurrentTable, clock: Clock, table: Table | None = None
    ) -> None:
        self.members = 1
        self.heard_at: float | None = None
        self.failing: str | None = None
        self._exchange = exchange
        self._current = current
        self._clock = clock
        self._private = PrivateQuotas() if table is None else None
        self.machine = _machine(None if table is None else table.identity)
        self.wanted = asyncio.Event()
        self._news = News(self.wanted.set)
        self._tenants: dict[str, _Tenant] = {}
        self._by_shared: dict[SharedQuota, _Tenant] = {}
        self._active: dict[str, _Tenant] = {}
        self._told_all = self._ticked = clock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="quotas")

    def __repr__(self) -> str:
        return f"<FleetQuotas of {len(self._tenants)} tenants, {self.members} members>"

    @property
    def is_needed(self) -> bool:
        """Whether a tenant has a limit a minute; without one, machines tell each other nothing."""
        return bool(self._tenants)

    async def run(self) -> None:
        """Exchange until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            begun = self._clock()
            if self._tenants:
                told, scarce = self.telling(begun)
                try:
                    heard, at = await loop.run_in_executor(self._thread, partial(self._ask, told, scarce=scarce))
                except StateError as error:
                    self._failed(error)
                    await asyncio.sleep(INTERVAL)
                else:
                    self.hear(heard, at)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self.wanted.wait()
            await asyncio.sleep(begun + SPACING - self._clock())
            self.wanted.clear()

    def close(self) -> None:
        """Let go of the connection."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._exchange.close()

    def follow(self, now: float) -> None:
        """Share the quotas of the tenants that the routes name by now."""
        if self._private is not None:
            self._private.beat(now)
        named = {each.name: each.quota for each in self._current.tenants if each.quota.requests or each.quota.tokens}
        for name in [name for name, each in self._tenants.items() if named.get(name) is not each.quota]:
            self._forget(name)
        for name, quota in named.items():
            if name in self._tenants:
                continue
            if quota.shared is None and self._private is not None:
                quota.share(self._private.add())
            if quota.shared is not None:
                quota.shared.tell(self._news, now)
                tenant = self._tenants[name] = _Tenant(name, quota, quota.shared)
                self._by_shared[quota.shared] = tenant

    def tick(self, now: float) -> None:
        """Let time pass, and take it that others go on as before while nothing is heard of them; called each moment."""
        if self._private is not None:
            self._private.beat(now)
        elapsed, self._ticked = now - self._ticked, now
        if self.members < 2 or self.heard_at is None or not self.is_alone(now):
            return
        self._note_news()
        for tenant in self._active.values():
            shared = tenant.shared
            if shared.lock():
                unheard = min(shared.heard(now), elapsed)
                for kind in tenant.kinds:
                    kind.bucket.assume((1.0 - kind.part.of(self.members)) * unheard, now)
                shared.unlock()

    def is_alone(self, now: float) -> bool:
        """Whether it goes on without the others: it has heard nothing of them yet, or not of late."""
        return self.heard_at is None or now - self.heard_at >= AWAY

    def view(self, now: float, name: str = "") -> QuotaView:
        """Return what is known: of one tenant, or of those that have used most of a limit."""
        tenants: Iterable[_Tenant]
        if name:
            tenants = [self._tenants[name]] if name in self._tenants else []
        else:
            used = [(seconds, each.name) for each in self._tenants.values() if (seconds := each.full_in(now)) > 0.0]
            tenants = [self._tenants[each] for _, each in nlargest(SHOWN, used)]
        alone = self.is_alone(now)
        limits = tuple(use for each in tenants for use in self._uses(each, now, alone=alone))
        heard = None if self.heard_at is None else now - self.heard_at
        return QuotaView(self.machine, self.members, heard, alone, self.failing or "", limits)

    def telling(self, now: float) -> tuple[list[TenantCharged], bool]:
        """Return what to tell, and whether to ask for all that is scarce: each second; else only what is news."""
        every = now - self._told_all >= INTERVAL or self.heard_at is None
        news = self._note_news()
        if every:
            self._told_all = now
            told = {each.name for each in news}
            for name in [name for name, each in self._active.items() if each.is_full(now) and name not in told]:
                del self._active[name]
        tenants = [*self._active.values()] if every else news
        return [_charged(each, now) for each in tenants], every

    def hear(self, heard: Heard, at: float) -> None:
        """Take an answer that was given at `at`."""
        if self.failing is not None:
            self.failing = None
            _log.info("quotas are shared with other machines again")
        self.members, self.heard_at = max(1, heard.members), at
        now = self._clock()
        for each in heard.tenants:
            tenant = self._tenants.get(each.name)
            if tenant is not None:
                self._hear(tenant, each, at, now)

    def _uses(self, tenant: _Tenant, now: float, *, alone: bool) -> Iterator[LimitUse]:
        heard = None if tenant.at is None else max(0.0, now - tenant.at)
        for name, bucket, kind in tenant.limits():
            here, elsewhere = kind.used(bucket.size, now, heard or 0.0)
            part = kind.part.of(self.members) if alone and self.members > 1 else None
            left = kind.bucket.level(bucket.size, now)
            yield LimitUse(tenant.name, name, bucket.size, left, here, elsewhere, heard, part)

    def _hear(self, tenant: _Tenant, heard: TenantHeard, at: float, now: float) -> None:
        shared = tenant.shared
        if not shared.lock():
            return  # the next answer comes soon
        known = heard.since == _since(shared)
        elapsed = None if tenant.at is None else at - tenant.at
        answers = (
            (heard.requests_full_in, heard.requests_charged),
            (heard.tokens_full_in, heard.tokens_charged),
        )
        for kind, bucket, (full_in, charged) in zip(tenant.kinds, tenant.buckets, answers, strict=True):
            if bucket is None:
                continue
            count = charged if known and charged is not None else kind.bucket.heard
            kind.bucket.hear(full_in, count, bucket.size, at)
            kind.hear(full_in, count, bucket.size, elapsed)
            left = kind.bucket.level(bucket.size, now)
            kind.bucket.urgent_at = count + urgent_after(bucket.size, left, self.members)
        shared.heard(now)
        shared.unlock()
        tenant.at = at
        if any(kind.bucket.is_urgent for kind in tenant.kinds):
            self._news.note(shared, now)

    def _ask(self, told: Sequence[TenantCharged], *, scarce: bool) -> tuple[Heard, float]:
        """Exchange; return with the answer when it was given, about. Runs in a thread of its own."""
        before = self._clock()
        heard = self._exchange.exchange(self.machine, int(before * _MICROSECONDS), told, scarce=scarce)
        return heard, (before + self._clock()) / 2

    def _note_news(self) -> list[_Tenant]:
        found = [tenant for each in self._news.told() if (tenant := self._by_shared.get(each)) is not None]
        self._active |= {each.name: each for each in found}
        return found

    def _forget(self, name: str) -> None:
        tenant = self._tenants.pop(name)
        del self._by_shared[tenant.shared]
        self._active.pop(name, None)
        tenant.shared.news = None
        if self._private is not None and not tenant.shared.own:
            self._private.drop(tenant.shared)
            tenant.quota.part()

    def _failed(self, error: StateError) -> None:
        if self.failing is None:
            _log.warning("quotas are not shared with other machines for now", extra={"reason": str(error)})
        self.failing = str(error)


def _charged(tenant: _Tenant, now: float) -> TenantCharged:
    requests, tokens = (
        Charged(0, 0.0, 0.0, 0.0)
        if bucket is None
        else Charged(bucket.size, kind.bucket.charged, kind.bucket.heard, kind.bucket.full_in(now))
        for kind, bucket in zip(tenant.kinds, tenant.buckets, strict=True)
    )
    return TenantCharged(tenant.name, _since(tenant.shared), requests, tokens)


def _since(shared: SharedQuota) -> str:
    return f"{shared.since:.6f}"


def _machine(identity: int | None) -> str:
    """Return what names this machine, or this process where it is alone there."""
    return f"{socket.gethostname()}/{secrets.token_hex(6) if identity is None else f'{identity:x}'}"
