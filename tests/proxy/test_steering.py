"""A request goes to a version that it sticks to, and along the first rule that it falls under."""

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.exchange import Exchange
from gateway.proxy.live import LiveModel
from gateway.proxy.steering import route_for, version_for
from gateway.wire.body import Body, read_json
from gateway.wire.endpoints import FORWARDED
from tests.control.tables import in_force, written
from tests.proxy.test_tenants import head

CHAT = FORWARDED[b"/v1/chat/completions"]


def model(folder: Path, **more: Any) -> LiveModel:
    """Return a model of two versions, each with a pool."""
    routes = {
        "pools": {name: {"backends": [f"http://{name}:1"]} for name in ("a", "b")},
        "models": {"m": {"versions": {"v1": {"pools": ["a"]}, "v2": {"pools": ["b"]}}, **more}},
    }
    return in_force(written(folder / "routes.yaml", routes)).table.model("m")


def request(tenant: str = "") -> Exchange:
    made = Exchange("r1", CHAT.path, 0.0)
    made.tenant = tenant
    return made


def body(**more: str) -> Body:
    fields = "".join(f',"{name}":{value}' for name, value in more.items())
    return read_json(b'{"model":"m","messages":[]%b}' % fields.encode())


SPLIT = {"split": {"v1": 75, "v2": 25}}


@pytest.mark.parametrize(("chance", "version"), [(0.0, "v1"), (0.74, "v1"), (0.76, "v2"), (0.99, "v2")])
def test_chance_follows_the_split(tmp_path: Path, chance: float, version: str) -> None:
    made = request()
    assert version_for(model(tmp_path, **SPLIT), made, head(), body(), chance).name == version
    assert (made.forced, made.sticky) == (False, None)


def test_requests_of_one_user_stay_together_whatever_the_chance(tmp_path: Path) -> None:
    live = model(tmp_path, **SPLIT, sticky_by=["user"])
    for user in ('"a"', '"b"', '"c"'):
        versions = {version_for(live, request(), head(), body(user=user), chance).name for chance in (0.1, 0.9)}
        assert len(versions) == 1
    made = request("acme")
    version_for(live, made, head(), body(user='"a"'), 0.5)
    assert made.sticky == b'acme\0"a"', "users of different tenants are different users"


def test_the_first_kind_of_key_that_a_request_has_counts(tmp_path: Path) -> None:
    live = model(tmp_path, **SPLIT, sticky_by=["session", "user", "tenant"])
    keys = []
    for made, carried, said in (
        (request("acme"), head(session=b"s1"), body(user='"a"')),
        (request("acme"), head(), body(user='"a"')),
        (request("acme"), head(), body()),
        (request(), head(), body()),
    ):
        version_for(live, made, carried, said, 0.5)
        keys.append(made.sticky)
    assert keys == [b"acme\0s1", b'acme\0"a"', b"acme", None]


def test_a_client_chooses_a_version_where_it_may(tmp_path: Path) -> None:
    made = request()
    live = model(tmp_path, **SPLIT, version_header=True)
    assert version_for(live, made, head(version=b"v2"), body(), 0.0).name == "v2"
    assert made.forced
    with pytest.raises(InvalidRequest, match="has no version `v3`; there are v1, v2"):
        version_for(live, request(), head(version=b"v3"), body(), 0.0)


def test_where_it_may_not_it_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="does not let clients choose"):
        version_for(model(tmp_path, **SPLIT, version_header=False), request(), head(version=b"v2"), body(), 0.0)


def test_without_rules_a_request_may_use_every_pool_of_its_version(tmp_path: Path) -> None:
    live = model(tmp_path, **SPLIT)
    route = route_for(live, live.versions["v1"], CHAT, request(), body())
    assert [pool.peers.pool for pool in route.pools] == ["a"]
