"""What a tenant may use: requests and tokens a minute, as token buckets, and requests at once."""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from gateway.shared.quota import MINUTE, SharedQuota


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """Limits of one tenant; None is none."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


class Exceeded(StrEnum):
    """Which limit a request ran into."""

    REQUESTS = "requests_per_minute"
    TOKENS = "tokens_per_minute"
    CONCURRENT = "concurrent"


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a request is refused, and after how many seconds it would not be, if ever: more than a bucket never fits."""

    limit: Exceeded
    allowed: int
    asked: int
    retry_after: int | None


class Bucket:
    """So much a minute, and a minute's worth at once; it may go into debt when the real cost is known late."""

    __slots__ = ("_at", "level", "size")

    def __init__(self, size: int, now: float) -> None:
        self.size = size
        self.level = float(size)
        self._at = now

    def __repr__(self) -> str:
        return f"<Bucket {self.level:.1f} of {self.size}>"

    def refill(self, now: float) -> None:
        """Let time pass."""
        if now > self._at:
            self.level = min(float(self.size), self.level + (now - self._at) * self.size / MINUTE)
            self._at = now

    def holds(self, amount: int, now: float) -> bool:
        """Whether so much is there now."""
        self.refill(now)
        return self.level >= amount

    def denied(self, limit: Exceeded, amount: int) -> Denied:
        """Return why a request for so much is refused, by the limit that this bucket is of."""
        return Denied(limit, self.size, amount, None if amount > self.size else max(1, ceil(self.wait(amount))))

    def set(self, level: float, now: float) -> None:
        """Take what is left now."""
        self.level = level
        self._at = now

    def wait(self, amount: float) -> float:
        """Return seconds until so much is there."""
        return max(0.0, (amount - self.level) * MINUTE / self.size)

    @property
    def reset(self) -> float:
        """Seconds until it is full."""
        return (self.size - self.level) * MINUTE / self.size


class Quota:
    """What one tenant has left. Every `reserve` that was granted is followed by one `settle`.

    Where several processes share it by `shared`, `in_flight` and the levels are those of all of them, as of the last
    `reserve`.
    """

    __slots__ = ("in_flight", "limits", "requests", "shared", "tokens")

    def __init__(self, limits: QuotaLimits, now: float) -> None:
        self.in_flight = 0
        self.shared: SharedQuota | None = None
        self.follow(limits, now)

    def __repr__(self) -> str:
        return f"<Quota {self.in_flight} in flight, {self.requests}, {self.tokens}>"

    @property
    def own(self) -> int:
        """Its requests in flight in this process."""
        return self.in_flight if self.shared is None else self.shared.own

    def left(self, now: float) -> tuple[float | None, float | None]:
        """Return what is left of requests and of tokens, None where there is no limit; below 0 in debt."""
        if self.shared is not None:
            self._take_over(self.shared, now)
        requests, tokens = self.requests, self.tokens
        for bucket in (requests, tokens):
            if bucket is not None:
                bucket.refill(now)
        return None if requests is None else requests.level, None if tokens is None else tokens.level

    def unused(self, now: float) -> list[tuple[Exceeded, float]]:
        """Return which share of each limit is left, 0 where it is in debt."""
        requests, tokens = self.left(now)
        found: list[tuple[Exceeded, float]] = []
        if self.requests is not None and requests is not None:
            found.append((Exceeded.REQUESTS, max(0.0, requests / self.requests.size)))
        if self.tokens is not None and tokens is not None:
            found.append((Exceeded.TOKENS, max(0.0, tokens / self.tokens.size)))
        most = self.limits.concurrent
        if most is not None:
            used = self.in_flight if self.shared is None else self.shared.in_flight
            found.append((Exceeded.CONCURRENT, max(0.0, 1 - used / most)))
        return found

    def follow(self, limits: QuotaLimits, now: float) -> None:
        """Take other limits; what is in flight stays so, and what this process owes is charged by the limits before."""
        if self.shared is not None:
            self.shared.pay(now)
        self.limits = limits
        self.requests = Bucket(limits.requests_per_minute, now) if limits.requests_per_minute else None
        self.tokens = Bucket(limits.tokens_per_minute, now) if limits.tokens_per_minute else None

    def share(self, shared: SharedQuota) -> None:
        """Share it with other processes from now on; what is in flight counts there too."""
        shared.count(self.in_flight)
        self.shared = shared

    def part(self) -> None:
        """Share it no more, once this process has nothing in flight."""
        self.shared = None
        self.in_flight = 0

    def reserve(self, tokens: int, now: float) -> Denied | None:
        """Charge a request of at most so many tokens; None when granted; a refusal charges nothing."""
        shared = self.shared
        denied = self._reserve(tokens, now) if shared is None else self._reserve_shared(shared, tokens, now)
        if denied is None:
            self.in_flight += 1
        return denied

    def settle(self, reserved: int, used: int) -> None:
        """End a granted request: give back what was reserved and not used, or charge what was used beyond."""
        self.in_flight -= 1
        if self.tokens is not None:
            self.tokens.level = min(float(self.tokens.size), self.tokens.level + reserved - used)
        if self.shared is not None:
            self._settle_shared(self.shared, used - reserved)

    def _reserve(self, tokens: int, now: float) -> Denied | None:
        limits = self.limits
        if limits.concurrent is not None and self.in_flight >= limits.concurrent:
            return Denied(Exceeded.CONCURRENT, limits.concurrent, self.in_flight + 1, 1)
        requests, held = self.requests, self.tokens
        if requests is not None and not requests.holds(1, now):
            return requests.denied(Exceeded.REQUESTS, 1)
        if held is not None and not held.holds(tokens, now):
            return held.denied(Exceeded.TOKENS, tokens)
        if requests is not None:
            requests.level -= 1
        if held is not None:
            held.level -= tokens
        return None

    def _reserve_shared(self, shared: SharedQuota, tokens: int, now: float) -> Denied | None:
        """Do so by what is left for all processes; where the lock cannot be had, the charge is made later.

        While much is left a charge is made later too, together with others, and what other processes charged meanwhile
        is seen then.
        """
        requests = self.requests
        if (
            self.limits.concurrent is None
            and self._reserve(tokens, now) is None
            and shared.owe(int(requests is not None), tokens if self.tokens is not None else 0)
        ):
            shared.count(1)
            return None
        locked = shared.lock()
        shared.owes()
        try:
            self.in_flight = shared.in_flight
            self._take_over(shared, now)
            denied = self._reserve(tokens, now)
            if denied is None:
                shared.count(1)
                if requests is not None:
                    shared.requests.charge(1, requests.size, now, locked=locked)
                if self.tokens is not None:
                    shared.tokens.charge(tokens, self.tokens.size, now, locked=locked)
            if shared.news is not None:
                shared.news.note(shared, now)
            return denied
        finally:
            if locked:
                shared.unlock()

    def _take_over(self, shared: SharedQuota, now: float) -> None:
        """Fill the buckets as far as all processes have left of theirs."""
        if self.requests is not None:
            self.requests.set(shared.requests.level(self.requests.size, now), now)
        if self.tokens is not None:
            self.tokens.set(shared.tokens.level(self.tokens.size, now), now)

    def _settle_shared(self, shared: SharedQuota, more: int) -> None:
        shared.count(-1)
        if self.tokens is None or not more:
            return
        if self.limits.concurrent is not None or not shared.owe(0, more):
            shared.owes()
            locked = shared.lock()
            shared.tokens.charge(more, self.tokens.size, shared.now, locked=locked)
            if locked:
                shared.unlock()
            if shared.news is not None:
                shared.news.note(shared, shared.now)
