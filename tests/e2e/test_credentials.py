"""What must stay on one side of the gateway: keys, cookies, claims of proxies, and where answers come from."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.wire.edge import Edge, networks
from tests.e2e.fakes import JSON_ANSWER, Call, Script, backends, good, whole
from tests.e2e.harness import ask, chat, gateway, routes
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
KEYS = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "ocp-apim-subscription-key", "x-auth-token")
FORWARDED = (
    "x-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: https\r\nx-forwarded-client-cert: claimed\r\n"
    "forwarded: for=203.0.113.9\r\nx-real-ip: 203.0.113.9\r\n"
)


async def leaking(call: Call) -> None:
    """An engine that answers with fields which are none of its clients' business, by the status in its path."""
    fields = "".join(f"{name}: sk-engine\r\n" for name in (*KEYS, "set-cookie", "set-cookie2"))
    status = b"400 Bad Request" if b"wrong" in call.body else b"200 OK"
    await call.send(whole(status, JSON_ANSWER, fields.encode() + b"x-gateway-hops: forged\r\n"))


@pytest.mark.parametrize("name", [*KEYS, "cookie", "cookie2", "API-Key", "X-Goog-Api-Key"])
async def test_no_credential_of_a_client_reaches_an_engine(tmp_path: Path, name: str) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await ask(running.port, chat(stream=False), headers=f"{name}: sk-mine\r\n")).status == 200
        assert b"sk-mine" not in fake.calls[0].head


@pytest.mark.parametrize("text", ["right", "wrong"])
async def test_no_credential_of_an_engine_reaches_a_client(tmp_path: Path, text: str) -> None:
    async with backends(leaking) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat(stream=False, user=text))
        assert answer.status == (400 if text == "wrong" else 200)
        assert b"sk-engine" not in answer.raw
        assert b"forged" not in answer.raw


@pytest.mark.parametrize(
    ("trusted", "passed_on"), [("", False), ("192.0.2.0/24", False), ("192.0.2.1, 127.0.0.0/8", True), ("::1", False)]
)
async def test_whom_a_proxy_asks_for_is_believed_only_of_trusted_ones(
    tmp_path: Path, trusted: str, passed_on: bool
) -> None:
    edge = Edge(networks(trusted))
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), edge=edge) as running:
        await ask(running.port, chat(stream=False), headers=FORWARDED)
        found = [line.partition(":")[0] in fake.calls[0].head.decode() for line in FORWARDED.split()[::2]]
        assert set(found) == {passed_on}


def _tenants(url: str) -> str:
    tenants = {
        "plain": {"key_sha256": sha256(b"k1").hexdigest()},
        "curious": {"key_sha256": sha256(b"k2").hexdigest(), "debug": True},
    }
    return json.dumps({**json.loads(routes(url)), "tenants": tenants})


async def broken(call: Call) -> None:
    await call.send(whole(b"500 Internal Server Error", b"{}"))


async def refusing(call: Call) -> None:
    call.close()


@pytest.mark.parametrize("script", [good, broken, refusing])
@pytest.mark.parametrize("stream", [True, False])
async def test_only_tenants_that_debug_see_where_answers_come_from(
    tmp_path: Path, script: Script, stream: bool
) -> None:
    async with backends(script) as (fake,), gateway(tmp_path, _tenants(fake.url)) as running:
        plain = await ask(running.port, chat(stream=stream), headers="authorization: Bearer k1\r\n")
        assert b"x-gateway" not in plain.raw.lower()
        curious = await ask(running.port, chat(stream=stream), headers="authorization: Bearer k2\r\n")
        assert plain.status == curious.status
        assert curious.headers["x-gateway-attempts"] == "1"
        assert f":{fake.port}".encode() not in plain.raw, "an address inside"
        assert b"x-gateway" not in (await ask(running.port, chat(stream=stream))).raw  # 401


@pytest.mark.parametrize("script", [good, broken, refusing])
async def test_the_gateways_fields_can_be_switched_off(tmp_path: Path, script: Script) -> None:
    edge = Edge(gateway_headers=False)
    async with backends(script) as (fake,), gateway(tmp_path, routes(fake.url), edge=edge) as running:
        answer = await ask(running.port, chat(stream=False))
        assert b"x-gateway" not in answer.raw.lower()
        assert f":{fake.port}".encode() not in answer.raw
        assert answer.headers["x-request-id"]


async def test_a_model_that_its_engine_serves_under_another_name_is_told_of_to_those_who_may_see_backends(
    tmp_path: Path,
) -> None:
    async with backends(good) as (fake,):
        fake.models = ("qwen",)
        async with gateway(tmp_path, _tenants(fake.url), wait_ready=False) as running:
            await eventually(lambda: any(b.models == {"qwen": None} for b in running.app.data.registry))
            plain = await ask(running.port, chat(stream=False), headers="authorization: Bearer k1\r\n")
            curious = await ask(running.port, chat(stream=False), headers="authorization: Bearer k2\r\n")
            assert (plain.status, curious.status) == (503, 503)
            assert b'no backend of the model `m` is ready"' in plain.body
            assert f"is ready: m/127.0.0.1:{fake.port} serves qwen, not m".encode() in curious.body
