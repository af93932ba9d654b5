"""The admin listener, over real listeners."""

import re
from pathlib import Path

import pytest

from gateway.admin.protection import TokenRequired, is_loopback, require_token
from gateway.claim import Claim
from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat, gateway, routes
from tests.shared.columns import slots_of
from tests.shared.stepping import SteppedMemory
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio


async def test_status_tells_what_is_routed_and_how_it_is(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running, patient_client() as web:
        await ask(running.port, chat())
        status = (await web.get(f"{running.admin}/admin/status")).json()
        assert [each | {"requests_last_minute": 1, "share": 1.0} for each in status["models"][0]["versions"]] == [
            {
                "name": "default",
                "requests_last_minute": 1,
                "share": 1.0,
                "served_model": "m",
                "pools": ["m"],
                "weight": 1.0,
                "instead": "",
                "waiting": {"interactive": 0, "standard": 0, "batch": 0},
                "waiting_tenants": {},
                "held_back": [],
                "shed": {},
            }
        ]
        (backend,) = status["backends"]
        assert (backend["state"], backend["in_flight"], backend["models"]) == ("ready", 0, ["m"])
        assert (backend["limit"], backend["limit_reason"], backend["kv_tokens"]) == (32, "not tried yet", 0)
        assert status["tenants"] == []
        assert status["routes"]["loaded"] is True
        assert (await web.get(f"{running.admin}/health")).json() == {"status": "ok"}
        assert "/admin/status" in (await web.get(f"{running.admin}/openapi.json")).json()["paths"]


async def test_a_worker_shows_the_tokens_of_its_own_requests_which_are_added_to_those_of_others(tmp_path: Path) -> None:
    memory = SteppedMemory(2)
    own, other = slots_of(memory.join()), slots_of(memory.join())
    assert other.take(Claim(70), 4, 100, 0.0)
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running, patient_client() as web:
        slots = running.backend().health.slots
        slots.shared = own
        slots.look()
        (backend,) = (await web.get(f"{running.admin}/admin/status")).json()["backends"]
        assert (slots.kv, backend["kv_tokens"], backend["in_flight"]) == (70, 0, 0)


async def test_a_reload_answers_with_the_problems(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running, patient_client() as web:
        assert (await web.post(f"{running.admin}/admin/reload")).json()["models"] == 1
        (tmp_path / "routes.yaml").write_text("models: {m: {backnds: []}}")
        refused = await web.post(f"{running.admin}/admin/reload")
        assert refused.status_code == 409
        assert "did you mean" in "".join(refused.json()["error"]["problems"])
        status = (await web.get(f"{running.admin}/admin/status")).json()
        assert status["routes"]["loaded"] is False
        assert (await ask(running.port, chat())).status == 200


async def test_neither_plane_answers_for_the_other(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running, patient_client() as web:
        for path in ("/metrics", "/admin/status", "/admin/reload", "/docs", "/openapi.json"):
            assert (await web.get(running.data + path)).status_code == 404
        astray = await web.post(f"{running.admin}/v1/chat/completions", json=chat())
        assert astray.status_code == 404
        assert "admin listener: use the gateway's other port" in astray.json()["error"]["message"]
        for method, path, status in (("GET", "/nope", 404), ("GET", "/admin/reload", 405)):
            answer = await web.request(method, running.admin + path)
            assert answer.status_code == status
            assert set(answer.json()["error"]) >= {"message", "type", "param", "code"}


async def test_strangers_hosts_and_origins_are_refused(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running, patient_client() as web:
        rebound = await web.get(f"{running.admin}/metrics", headers={"host": "evil.example"})
        assert rebound.status_code == 403
        foreign = await web.post(f"{running.admin}/admin/reload", headers={"origin": "http://evil.example"})
        assert foreign.status_code == 403
        own = await web.post(f"{running.admin}/admin/reload", headers={"origin": running.admin})
        assert own.status_code == 200


async def test_with_a_token_nothing_but_health_is_open(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), token="t0k") as running:
        async with patient_client(base_url=running.admin) as web:
            for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic t0k"}):
                answer = await web.get("/metrics", headers=given)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_admin_token")
            assert (await web.get("/health")).status_code == 200
            assert (await web.get("/metrics", headers={"authorization": "Bearer t0k"})).status_code == 200


async def test_random_models_and_paths_do_not_grow_the_series(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running, patient_client() as web:

        async def series() -> int:
            text = (await web.get(f"{running.admin}/metrics")).text
            assert " nan" not in text.lower()
            return sum(line.startswith("tidegate_") for line in text.splitlines())

        await ask(running.port, {**chat(), "model": "first"})
        await ask(running.port, chat(), path="/first")
        await eventually(lambda: running.app.control.flusher.saved_at is not None)  # that time is a series of its own
        before = await series()
        for number in range(200):
            await ask(running.port, {**chat(), "model": f"random-{number}"}, headers=f"x-request-id: r{number}\r\n")
            await ask(running.port, chat(), path=f"/random/{number}")
        assert await series() == before


CANARY = "sk-canary-5f2a"


async def test_secrets_and_prompts_appear_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KEY", CANARY)
    caplog.set_level("DEBUG")
    async with backends(good) as (fake,):
        text = routes(fake.url).replace(f'"{fake.url}"', '{"url": "' + fake.url + '", "api_key": "${KEY}"}')
        async with gateway(tmp_path, text) as running, patient_client() as web:
            body = {**chat(), "messages": [{"role": "user", "content": CANARY}]}
            headers = f"authorization: Bearer {CANARY}\r\ncookie: {CANARY}\r\nx-api-key: {CANARY}\r\n"
            answers = [await ask(running.port, body, headers=headers)]
            answers.append(await ask(running.port, body, path="/nope", headers=headers))
            answers.append(await ask(running.port, {**body, "model": "nope"}, headers=headers))
            answers.append(await ask(running.port, b'{"' + CANARY.encode(), headers=headers))
            pages = [(await web.get(running.admin + path)).text for path in ("/metrics", "/admin/status")]
            everything = "".join([*pages, caplog.text, repr(running.app.data.registry), *map(repr, answers)])
            assert [answer.status for answer in answers] == [200, 404, 404, 400]
            assert CANARY not in everything


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    require_token(host, has_token=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "gateway.example"])
def test_beyond_loopback_a_token_is_required(host: str) -> None:
    with pytest.raises(TokenRequired, match="TIDEGATE_ADMIN_TOKEN"):
        require_token(host, has_token=False)
    require_token(host, has_token=True)


WRONG = [
    "{",
    "[" * 5000,
    "null",
    "[]",
    "7",
    '"x"',
    '{"step":1e400}',
    '{"step":NaN}',
    '{"step":"\\ud800"}',
    '{"model":"\\ud800","version":"v"}',
    '{"model":"m","version":"\\ud800"}',
    '{"model":"m","version":"v","id":"\\ud800"}',
    '{"reason":"\\ud800"}',
    '{"reason":1e400}',
    '{"\\ud800":1}',
    '{"model":1e400,"version":-1e400}',
    "\xff",
    "",
    '{"model":{"\\udfff":[1e999]},"version":[]}',
    '{"expected_version":1e400}',
    '{"reason":' + '{"a":' * 500 + "1" + "}" * 501,
]

GOES_ON = "/admin/stream"
"""What is read for 25 s."""


async def test_nothing_that_is_sent_to_the_admin_listener_is_an_error_of_its_own(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running, patient_client() as web:
        paths = (await web.get(f"{running.admin}/openapi.json")).json()["paths"]
        posts = [re.sub(r"{[a-z_]+}", "m", path) for path, methods in paths.items() if "post" in methods]
        assert len(posts) > 3
        for path in {
            path.replace("/m/canary/m", f"/m/canary/{action}") for path in posts for action in ("pause", "start")
        }:
            for body in WRONG:
                answer = await web.post(
                    running.admin + path, content=body.encode("latin-1"), headers={"content-type": "application/json"}
                )
                assert answer.status_code < 500, (path, body)
                if answer.status_code >= 400:
                    assert set(answer.json()["error"]) >= {"message", "type", "param", "code"}
        for query in ("model=%ED%A0%80", "limit=1e400", "limit=-1", "model=m&prompt_tokens=1e400", "x=%FF"):
            for path in (path for path, methods in paths.items() if "get" in methods and path != GOES_ON):
                answer = await web.get(f"{running.admin}{re.sub(r'{[a-z_]+}', '%ED%A0%80', path)}?{query}")
                assert answer.status_code < 500, (path, query)
