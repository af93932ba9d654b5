"""Clients that send the same head with every request: what has changed since is found all the same."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fakes import backends, good
from tests.e2e.harness import chat, gateway, post
from tests.e2e.raw_client import connect

pytestmark = pytest.mark.anyio
KEY = sha256(b"sk-acme").hexdigest()


def routes(url: str, *, model: str = "m", **tenants: dict[str, Any]) -> str:
    spec = {"backends": [url], "timeouts": {"connect": "20s", "first_token": "60s", "stall": "60s"}}
    return json.dumps({"models": {model: spec}, "tenants": tenants})


ACME = {"key_sha256": KEY}
CHANGES: dict[str, tuple[dict[str, Any], int, str]] = {
    "the key is gone": ({"other": {"key_sha256": sha256(b"sk-other").hexdigest()}}, 401, "invalid_api_key"),
    "it is another tenant's": ({"other": ACME | {"models": []}}, 403, "model_not_allowed"),
    "its limit is lower": ({"acme": ACME | {"limits": {"tokens_per_minute": 1}}}, 429, "rate_limit_exceeded"),
    "the model is gone": ({"acme": ACME, "model": "n"}, 404, "model_not_found"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_reload_holds_for_the_next_request_with_the_same_head(tmp_path: Path, change: str) -> None:
    after, status, code = CHANGES[change]
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url, acme=ACME)) as running:
        request, client = post(chat(), headers="authorization: Bearer sk-acme\r\n"), await connect(running.port)
        for _ in range(4):
            await client.send(request)
            assert (await client.answer()).status == 200
        (tmp_path / "routes.yaml").write_text(routes(fake.url, **after))
        await running.app.control.reloader.reload()
        await client.send(request)
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (status, code)
        assert len(fake.calls) == 4
        if status != 401:  # after which a client is not listened to any more
            (tmp_path / "routes.yaml").write_text(routes(fake.url, acme=ACME))
            await running.app.control.reloader.reload()
            await running.ready()
            await client.send(request)
            assert (await client.answer()).status == 200
        client.close()
        await running.quiet()
