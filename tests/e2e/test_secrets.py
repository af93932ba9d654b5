"""Secrets put in every place where one can be, and all that a gateway says searched for them."""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from tests.e2e.collector import collector
from tests.e2e.fakes import JSON_ANSWER, Call, backends, good, whole
from tests.e2e.processes import serving
from tests.waiting import patient_client

pytestmark = pytest.mark.anyio
KEY, ENGINE_KEY, ADMIN_TOKEN = "sk-planted-tenant", "sk-planted-engine", "sk-planted-admin"
PROMPT, WRONG_KEY, COOKIE = "planted words of a prompt", "sk-planted-wrong", "planted-cookie"
PLANTED = (KEY, ENGINE_KEY, ADMIN_TOKEN, PROMPT, WRONG_KEY, COOKIE, hashlib.sha256(KEY.encode()).hexdigest())
ADMIN_PATHS = (
    "/metrics",
    "/admin/status",
    "/admin/models/m/slo",
    "/admin/audit",
    "/admin/costs",
    "/admin/explain?model=m",
    "/openapi.json",
)


async def echoing_error(call: Call) -> None:
    """An engine that repeats in its error what it was sent, as some do; that much its client knows already."""
    await call.send(whole(b"500 Internal Server Error", JSON_ANSWER))


async def test_no_secret_is_in_anything_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ENGINE_KEY": ENGINE_KEY,
        "TIDEGATE_ADMIN_TOKEN": ADMIN_TOKEN,
        "NO_PROXY": "127.0.0.1",
        "TIDEGATE_TRACE_RATIO": "1",
    }.items():
        monkeypatch.setenv(name, value)
    told: list[str] = []
    async with backends(good, echoing_error) as (fine, broken), collector() as (endpoint, spans):
        monkeypatch.setenv("TIDEGATE_OTLP_ENDPOINT", endpoint)
        routes = {
            "tenants": {"acme": {"key_sha256": hashlib.sha256(KEY.encode()).hexdigest()}},
            "models": {
                "m": {"backends": [{"url": fine.url, "api_key": "${ENGINE_KEY}"}]},
                "sick": {"backends": [{"url": broken.url, "api_key": "${ENGINE_KEY}"}]},
            },
        }
        async with serving(tmp_path, [], "--log-level", "debug", text=json.dumps(routes)) as child:
            data, admin = child.urls[:2]
            for model, key in (("m", KEY), ("sick", KEY), ("m", WRONG_KEY), ("nobody", KEY)):
                told.append(await _asked(data, model, key))
            (tmp_path / "served.yaml").write_text(json.dumps({**routes, "tenants": {"acme": {"key_sha256": KEY}}}))
            async with patient_client(base_url=admin, headers={"authorization": f"Bearer {ADMIN_TOKEN}"}) as client:
                await client.post("/admin/reload")
                told += [(await client.get(path)).text for path in ADMIN_PATHS]
            child.process.terminate()
            await child.ended()
            said = "\n".join((*child.out, *child.err))
    assert '"outcome":"ok"' in said
    assert len(spans) >= 2
    assert ENGINE_KEY in fine.calls[-1].head.decode()
    everything = {"processes": said, "answers": "\n".join(told), "spans": str(spans)}
    for place, text in everything.items():
        for secret in PLANTED:
            assert secret not in text, f"{secret} is in the {place}"


async def _asked(url: str, model: str, key: str) -> str:
    """Ask once, with secrets wherever a client can put them, and return the whole answer."""
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "stream": True, "user": PROMPT}
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions?key={key} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"cookie: {COOKIE}\r\nx-session-id: {COOKIE}\r\ncontent-type: application/json\r\nconnection: close\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    writer.write(head.encode() + data)
    answer = (await reader.read(-1)).decode()
    writer.close()
    await writer.wait_closed()
    return answer
