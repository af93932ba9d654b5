"""Who calls, what they may use, and what they have left."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import InvalidApiKey, InvalidRequest, ModelNotAllowed, RateLimited
from gateway.proxy.tenants import Tenants, tenants_of
from gateway.wire.guard import Head
from tests.control.tables import models, written
from tests.waiting import HandClock

KEY = "sk-acme"


def head(**fields: Any) -> Head:
    """Return a head that carries these."""
    return Head(None, b"/", **fields)


def tenants(folder: Path, clock: HandClock | None = None, before: Tenants | None = None, **acme: Any) -> Tenants:
    """Return the tenants of routes with one, `acme`."""
    entry = {"key_sha256": [sha256(KEY.encode()).hexdigest()], **acme}
    routes = {**models("http://a:1"), "tenants": {"acme": entry}}
    return tenants_of(written(folder / "routes.yaml", routes), clock or HandClock(), before)


@pytest.mark.parametrize(
    "fields",
    [
        {"authorization": b"Bearer sk-acme"},
        {"authorization": b"bearer  sk-acme "},
        {"api_key": b"sk-acme"},
        {"api_key": b"sk-acme", "authorization": b"Bearer another"},
    ],
)
def test_a_key_names_its_tenant_in_whichever_field_it_comes(tmp_path: Path, fields: dict[str, bytes]) -> None:
    assert tenants(tmp_path).of(head(**fields)).name == "acme"


@pytest.mark.parametrize("key", [b"", b"sk-acm", b"sk-acme2", b"SK-ACME", sha256(KEY.encode()).hexdigest().encode()])
def test_any_other_key_is_refused(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(InvalidApiKey):
        tenants(tmp_path).of(head(authorization=b"Bearer " + key))


@pytest.mark.parametrize("fields", [{}, {"authorization": b"Basic c2stYWNtZTo="}])
def test_without_a_key_the_client_is_told_how_to_send_one(tmp_path: Path, fields: dict[str, bytes]) -> None:
    with pytest.raises(InvalidApiKey, match="Authorization: Bearer <key>"):
        tenants(tmp_path).of(head(**fields))


def test_where_there_are_no_tenants_everyone_may_ask_for_any_class(tmp_path: Path) -> None:
    made = tenants_of(written(tmp_path / "routes.yaml", models("http://a:1")), HandClock())
    assert not made.closed
    anyone = made.of(head())
    assert made.class_for(anyone, None).name == "standard"
    assert made.class_for(anyone, b"interactive").name == "interactive"


def test_a_tenant_may_ask_for_a_class_no_better_than_its_own(tmp_path: Path) -> None:
    own: dict[str, Any] = {"class": "standard"}
    made = tenants(tmp_path, **own)
    acme = made.of(head(api_key=KEY.encode()))
    asked = {None: "standard", b"batch": "batch", b"interactive": "standard", b"standard": "standard"}
    assert {each: made.class_for(acme, each).name for each in asked} == asked
    with pytest.raises(InvalidRequest, match="there is no class `gold`; there are "):
        made.class_for(acme, b"gold")


def test_a_tenant_may_use_the_models_of_its_list_by_whatever_name_it_asked(tmp_path: Path) -> None:
    acme = tenants(tmp_path, models=["m"]).of(head(api_key=KEY.encode()))
    acme.may_use("m", "alias")
    with pytest.raises(ModelNotAllowed, match="`alias`"):
        acme.may_use("other", "alias")


def test_a_tenant_without_limits_is_told_of_none(tmp_path: Path) -> None:
    acme = tenants(tmp_path).of(head(api_key=KEY.encode()))
    acme.reserve(10**6, 0.0)
    assert acme.shown() == b""


def test_a_limit_refuses_with_what_to_do_and_when(tmp_path: Path) -> None:
    clock = HandClock()
    acme = tenants(tmp_path, clock, limits={"requests_per_minute": 2, "tokens_per_minute": 1000}).of(
        head(api_key=KEY.encode())
    )
    acme.reserve(100, clock())
    shown = acme.shown()
    assert b"x-ratelimit-limit-requests: 2\r\nx-ratelimit-remaining-requests: 1\r\n" in shown
    assert b"x-ratelimit-remaining-tokens: 900\r\n" in shown
    with pytest.raises(RateLimited, match="this request alone may take 2000 tokens"):
        acme.reserve(2000, clock())
    acme.reserve(100, clock())
    with pytest.raises(RateLimited, match="`requests_per_minute: 2` is reached; retry in") as refused:
        acme.reserve(100, clock())
    assert refused.value.retry_after is not None
    clock.advance(refused.value.retry_after)
    acme.reserve(100, clock())


def test_what_is_used_up_stays_so_over_a_reload(tmp_path: Path) -> None:
    clock = HandClock()
    before = tenants(tmp_path, clock, limits={"requests_per_minute": 1})
    before.of(head(api_key=KEY.encode())).reserve(1, clock())
    same = tenants(tmp_path, clock, before, limits={"requests_per_minute": 1}).of(head(api_key=KEY.encode()))
    with pytest.raises(RateLimited):
        same.reserve(1, clock())


def test_no_key_is_kept(tmp_path: Path) -> None:
    made = tenants(tmp_path)
    assert KEY not in repr(made)
    assert KEY not in repr([vars(type(each)) for each in made])
