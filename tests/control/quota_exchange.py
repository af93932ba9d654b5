"""What the script of `gateway.state.redis_quotas` does, in Python, for tests: they compare both."""

from collections.abc import Callable, Sequence

from gateway.state.redis_quotas import Charged, Heard, TenantCharged, TenantHeard
from gateway.state.store import StateError

MINUTE = 60.0
MEMBER = 5.0
LATE = 3.0


class ModelExchange:
    """Buckets in memory, on a clock of their own."""

    where = "model"

    def __init__(self, clock: Callable[[], float]) -> None:
        self.away = False
        self._clock = clock
        self.empty()

    def empty(self) -> None:
        self.full_at: dict[str, list[float]] = {}
        self._rows: dict[tuple[str, str], tuple[str, int, tuple[float, float]]] = {}
        self._members: dict[str, float] = {}

    def age(self, seconds: float) -> None:
        """Let so much time pass for all that is stored."""
        self.full_at = {name: [each - seconds for each in at] for name, at in self.full_at.items()}
        self._members = {name: at - seconds for name, at in self._members.items()}

    def forget(self, machine: str) -> None:
        """Forget what a machine has told."""
        self._rows = {key: row for key, row in self._rows.items() if key[0] != machine}

    def close(self) -> None:
        """Do nothing."""

    def exchange(self, machine: str, sequence: int, tenants: Sequence[TenantCharged], *, scarce: bool) -> Heard:
        if self.away:
            raise StateError("away")
        now = self._clock()
        last = self._members.get(machine)
        late = last is None or now - last > LATE
        self._members[machine] = now
        self._members = {name: at for name, at in self._members.items() if at > now - MEMBER}
        answers = [self._charge(machine, sequence, each, now, late=late) for each in tenants]
        if scarce:
            known = {each.name for each in tenants}
            rest = [name for name, at in self.full_at.items() if name not in known and max(at) > now + MINUTE / 2]
            answers += [self._heard(machine, name, now) for name in rest]
        return Heard(len(self._members), tuple(answers))

    def _charge(self, machine: str, sequence: int, tenant: TenantCharged, now: float, *, late: bool) -> TenantHeard:
        since, known, counts = self._rows.get((machine, tenant.name), ("", 0, (0.0, 0.0)))
        held = since == tenant.since
        buckets = tenant.requests, tenant.tokens
        full_at = self.full_at.get(tenant.name)
        old = held and known >= sequence
        if full_at is None:
            full_at = [
                now + _left(each, had) for each, had in zip(buckets, counts if held else (None, None), strict=True)
            ]
        elif not old:
            heard = counts if held else tuple(each.heard for each in buckets)
            full_at = [
                _charged(at, each, had, now, late=late) for at, each, had in zip(full_at, buckets, heard, strict=True)
            ]
        if not old:
            self._rows[machine, tenant.name] = tenant.since, sequence, (buckets[0].total, buckets[1].total)
        self.full_at[tenant.name] = full_at
        answer = self._heard(machine, tenant.name, now)
        if max(full_at) <= now:
            del self.full_at[tenant.name]
        return answer

    def _heard(self, machine: str, name: str, now: float) -> TenantHeard:
        requests, tokens = self.full_at[name]
        since, _, counts = self._rows.get((machine, name), ("", 0, (None, None)))
        return TenantHeard(name, since, requests - now, counts[0], tokens - now, counts[1])


def _left(bucket: Charged, had: float | None) -> float:
    """Return when a bucket will be full of which nothing is stored: what is full is forgotten."""
    if had is not None:
        return (bucket.total - had) * MINUTE / bucket.size if bucket.size else 0.0
    return bucket.full_in if bucket.total > 0 else 0.0


def _charged(full_at: float, bucket: Charged, had: float, now: float, *, late: bool) -> float:
    if not bucket.size:
        return max(full_at, now)
    added = max(full_at, now) + (bucket.total - had) * MINUTE / bucket.size
    if late and bucket.total > had:
        added = min(added, max(full_at, now + MINUTE))
    return added
