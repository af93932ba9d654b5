"""What a request is read as, and what its tenant is charged."""

import json
from typing import Any

import pytest

from gateway.backends.registry import Registry
from gateway.config.load import load_routes
from gateway.config.table import TenantSpec
from gateway.errors import InvalidRequest, RateLimited
from gateway.exchange import Dialect
from gateway.lateness import Lateness
from gateway.policy.admission.quota import Quota, QuotaLimits
from gateway.proxy.live import LiveModel, live_table
from gateway.proxy.spec import Charge, RequestSpec, claim_of, seconds_for, understand
from gateway.proxy.tenants import LiveTenant, Tenants, tenants_of
from gateway.wire.body import Body, read_json
from gateway.wire.endpoints import FORWARDED
from gateway.wire.guard import Head
from gateway.wire.outbox import Outbox
from gateway.wire.service import Request
from tests.proxy.routed import ROUTES

CHAT, EMBEDDINGS = b"/v1/chat/completions", b"/v1/embeddings"


def model_of_smallest_routes() -> tuple[LiveModel, Tenants]:
    table = load_routes(ROUTES, {})
    registry = Registry(Outbox(), lambda: 0.0, Lateness())
    registry.reconcile(table)
    (model,) = live_table(table, registry, 0)
    return model, tenants_of(table, lambda: 0.0)


def asked(path: bytes, timeout: bytes | None, body: dict[str, Any]) -> tuple[Request, Body]:
    raw = json.dumps({"model": "my-model", **body}).encode()
    head = Head(FORWARDED[path], path, b"application/json", timeout=timeout)
    request = Request(head, [], raw, keep_alive=True, received=10.0)
    return request, read_json(raw, Dialect.CHAT if path == CHAT else Dialect.PLAIN)


def read(path: bytes = CHAT, *, timeout: bytes | None = None, **more: Any) -> tuple[RequestSpec, Body, LiveModel]:
    model, tenants = model_of_smallest_routes()
    request, body = asked(path, timeout, more)
    request.caller = tenants.of(request.head)
    (version,), service_class = model.versions.values(), tenants.classes["standard"]
    spec = understand(request, body, model, version, service_class, stored=None, repeatable=True, shows_labels=False)
    return spec, body, model


def test_a_chat_is_read_with_what_it_may_take() -> None:
    spec, body, model = read(stream=True, max_tokens=50, n=3, messages=[{"role": "user", "content": "hi"}])
    assert (spec.stream, spec.choices, spec.output, spec.size) == (True, 3, 50, len(body.raw))
    assert not any((spec.is_timed, spec.is_hurried, spec.is_lookup, spec.has_media, spec.http10))
    assert spec.seconds == model.timeouts.total
    assert claim_of(spec, body, model, prompt=7).kv == 7 + 3 * 50


def test_what_generates_nothing_claims_its_prompt_alone() -> None:
    spec, body, model = read(EMBEDDINGS, input="hi")
    assert (spec.output, claim_of(spec, body, model, prompt=7).kv) == (0, 7)


def test_a_client_that_gives_less_time_than_the_route_is_in_a_hurry() -> None:
    spec, _, model = read(timeout=b"2.5")
    assert (spec.seconds, spec.is_timed, spec.is_hurried) == (2.5, True, True)
    patient, *_ = read(timeout=b"1e6")
    assert (patient.seconds, patient.is_timed, patient.is_hurried) == (model.timeouts.total, True, False)


@pytest.mark.parametrize("given", [b"", b"soon", b"0", b"-1", b"nan", b"inf"])
def test_a_time_must_be_a_number_above_0(given: bytes) -> None:
    with pytest.raises(InvalidRequest, match="x-request-timeout"):
        seconds_for(given, 60.0)


def test_a_copy_asks_for_the_same_on_another_account_and_in_no_hurry() -> None:
    spec, *_ = read(timeout=b"2.5", max_tokens=5)
    nobody = LiveTenant(TenantSpec("", ()), spec.service_class, Quota(QuotaLimits(), 0.0), is_free=True)
    copy = spec.copied(nobody, 60.0)
    assert (copy.tenant, copy.seconds, copy.is_hurried) == (nobody, 60.0, False)
    assert (copy.kind, copy.output, copy.size) == (spec.kind, spec.output, spec.size)


def test_a_tenant_is_charged_at_first_for_the_most_then_for_what_was_used() -> None:
    spec, *_ = read()
    limits = QuotaLimits(tokens_per_minute=1000)
    tenant = LiveTenant(TenantSpec("a", (), limits=limits), spec.service_class, Quota(limits, 0.0))
    charge = Charge(tenant, 900, 0.0)
    assert b"x-ratelimit-remaining-tokens: 100\r\n" in charge.shown
    with pytest.raises(RateLimited):
        Charge(tenant, 200, 0.0)
    charge.settle(100)
    assert b"x-ratelimit-remaining-tokens: 700\r\n" in Charge(tenant, 200, 0.0).shown
