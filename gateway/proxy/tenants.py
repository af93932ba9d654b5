"""Who calls, what they may use, and what they have left: keys are looked up by digest and never kept."""

import hmac
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Final

from gateway.clock import Clock
from gateway.config.table import RouteTable, TenantSpec
from gateway.errors import InvalidApiKey, InvalidRequest, ModelNotAllowed, RateLimited
from gateway.policy.admission.classes import STANDARD, ServiceClass
from gateway.policy.admission.quota import Bucket, Denied, Quota, QuotaLimits
from gateway.wire.guard import Head
from gateway.wire.slices import Work, finish

_BEARER: Final = b"bearer "
_NO_TENANT: Final = TenantSpec("", ("0" * 64,))


class LiveTenant:
    """One tenant, its class, and its quota. A free one may ask for any class."""

    __slots__ = ("is_free", "is_limited", "name", "quota", "service_class", "spec")

    def __init__(self, spec: TenantSpec, service_class: ServiceClass, quota: Quota, *, is_free: bool = False) -> None:
        self.spec = spec
        self.name = spec.name
        self.service_class = service_class
        self.quota = quota
        self.is_free = is_free
        self.is_limited = spec.limits != QuotaLimits()

    def __repr__(self) -> str:
        return f"<LiveTenant {self.name} {self.quota}>"

    def allows(self, model: str) -> bool:
        """Whether it may use a model."""
        return self.spec.models is None or model in self.spec.models

    def may_use(self, model: str, asked: str) -> None:
        """Raise ModelNotAllowed for a model outside its list, by the name that was `asked` for: it may be an alias."""
        if not self.allows(model):
            raise ModelNotAllowed(f"this key may not use the model `{asked[:128]}`", param="model")

    def reserve(self, tokens: int, now: float) -> None:
        """Charge a request of at most so many tokens; raises RateLimited."""
        denied = self.quota.reserve(tokens, now)
        if denied is not None:
            raise RateLimited(_words(denied), retry_after=denied.retry_after)

    def shown(self) -> bytes:
        """Return the fields that tell what is left, in OpenAI's names; none without limits."""
        quota = self.quota
        if quota.requests is None and quota.tokens is None:
            return b""
        return _fields(b"requests", quota.requests) + _fields(b"tokens", quota.tokens)


class Tenants:
    """Everyone that the routes name, by the digests of their keys; quotas outlive a reload."""

    def __init__(self, table: RouteTable, clock: Clock, before: "Tenants | None" = None) -> None:
        """Begin without anyone: `work` fills them in, and `put_in_force` has the quotas follow their limits."""
        self._clock = clock
        self.classes: Mapping[str, ServiceClass] = table.classes
        self._specs: Mapping[str, TenantSpec] = table.tenants
        self._known: Mapping[str, LiveTenant] = before._by_name if before is not None else {}  # noqa: SLF001 - of this class too
        self._by_name: dict[str, LiveTenant] = {}
        self._by_digest: dict[str, LiveTenant] = {}
        self._changed: list[LiveTenant] = []
        spec = TenantSpec("", ())
        self._anyone = LiveTenant(spec, self.classes[STANDARD], Quota(spec.limits, clock()), is_free=True)

    def __repr__(self) -> str:
        return f"<Tenants {', '.join(self._by_name) or 'anyone'}>"

    def __iter__(self) -> Iterator[LiveTenant]:
        return iter(self._by_name.values())

    def work(self) -> Work[None]:
        """Fill them in, one at a time."""
        for name, spec in self._specs.items():
            tenant = self._by_name[name] = self._tenant(spec, self._known.get(name))
            for digest in spec.key_digests:
                self._by_digest[digest] = tenant
            yield
        self._known = {}

    def put_in_force(self) -> None:
        """Let the quotas follow limits that have changed; of what is used up nothing is forgotten."""
        now = self._clock()
        for tenant in self._changed:
            tenant.quota.follow(tenant.spec.limits, now)
        self._changed = []

    @property
    def closed(self) -> bool:
        """Whether a key is needed."""
        return bool(self._by_digest)

    def of(self, head: Head) -> LiveTenant:
        """Return whose key a head carries; raises InvalidApiKey. Without tenants it is anyone's."""
        if not self._by_digest:
            return self._anyone
        key = head.api_key
        if key is None and head.authorization is not None and head.authorization[:7].lower() == _BEARER:
            key = head.authorization[7:]
        if not key:
            raise InvalidApiKey("an API key is needed: send `Authorization: Bearer <key>`")
        digest = sha256(key.strip()).hexdigest()
        tenant = self._by_digest.get(digest)
        # A key of no tenant takes the same path to the same words as one that is nearly right.
        digests = tenant.spec.key_digests if tenant is not None else _NO_TENANT.key_digests
        matches = [hmac.compare_digest(digest, each) for each in digests]
        if tenant is None or not any(matches):
            raise InvalidApiKey("unknown API key")
        return tenant

    def class_for(self, tenant: LiveTenant, asked: bytes | None) -> ServiceClass:
        """Return the class that is asked for, when it is no better than the tenant's; raises InvalidRequest."""
        own = tenant.service_class
        if asked is None:
            return own
        wanted = self.class_named(asked.decode("latin-1"))
        return wanted if tenant.is_free or wanted.priority >= own.priority else own

    def class_named(self, name: str) -> ServiceClass:
        """Return a class by its name; raises InvalidRequest."""
        found = self.classes.get(name)
        if found is None:
            there_are = ", ".join(self.classes)
            raise InvalidRequest(f"there is no class `{name[:64]}`; there are {there_are}", param="x-gateway-class")
        return found

    def _tenant(self, spec: TenantSpec, known: LiveTenant | None) -> LiveTenant:
        quota = Quota(spec.limits, self._clock()) if known is None else known.quota
        tenant = LiveTenant(spec, self.classes[spec.service_class], quota)
        if quota.limits != spec.limits:
            self._changed.append(tenant)
        return tenant


def tenants_of(table: RouteTable, clock: Clock, before: Tenants | None = None) -> Tenants:
    """Return everyone at once."""
    tenants = Tenants(table, clock, before)
    finish(tenants.work())
    tenants.put_in_force()
    return tenants


def _words(denied: Denied) -> str:
    text = f"the limit `{denied.limit}: {denied.allowed}` is reached"
    if denied.retry_after is None:
        what = f"this request alone may take {denied.asked} tokens, and the limit is `{denied.limit}: {denied.allowed}`"
        return f"{what}: lower `max_tokens`, or shorten the prompt"
    return f"{text}; retry in {denied.retry_after} s"


def _fields(what: bytes, bucket: Bucket | None) -> bytes:
    if bucket is None:
        return b""
    return b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %ds\r\n" % (
        what,
        bucket.size,
        what,
        max(0, int(bucket.level)),
        what,
        int(bucket.reset + 0.999),
    )
