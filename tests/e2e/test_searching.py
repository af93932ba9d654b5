"""Looking for whoever keeps a response: bounded, and nothing that a client sends becomes part of another request."""

import json
from pathlib import Path

import pytest

from gateway.proxy import searching
from tests.e2e.fakes import Call, backends, good, whole
from tests.e2e.harness import ask, gateway, routes
from tests.e2e.test_stored import get, key, with_tenants

pytestmark = pytest.mark.anyio
ODD = ["", "..", "a/b", "x HTTP/1.1\r\nx-evil: 1\r\n\r\n", "x?y", "%2e%2e", "é", "\u0000", "x" * 129, "x" * 70_000]


async def says_nothing(call: Call) -> None:
    await call.until_gone()


async def keeps_nothing(call: Call) -> None:
    if call.head.startswith(b"GET"):
        await call.send(whole(b"404 Not Found", b"{}"))
    else:
        await good(call)


async def test_a_search_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "SECONDS", 0.2)
    async with (
        backends(says_nothing, keeps_nothing) as fakes,
        gateway(tmp_path, routes(*(fake.url for fake in fakes))) as running,
    ):
        answer = await get(running.port, "/v1/responses/resp_1")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert len((await running.settled()).attempts) == 0


async def test_a_search_too_many_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "MOST", 0)
    async with (
        backends(keeps_nothing, keeps_nothing) as fakes,
        gateway(tmp_path, routes(*(fake.url for fake in fakes))) as running,
    ):
        assert (await get(running.port, "/v1/responses/resp_1")).status == 503
        assert not any(fake.calls for fake in fakes)
        await running.settled()


@pytest.mark.parametrize("previous", [*ODD, 7, [], {}])
async def test_what_no_path_can_hold_is_asked_of_nobody(tmp_path: Path, previous: object) -> None:
    async with (
        backends(keeps_nothing, keeps_nothing) as fakes,
        gateway(tmp_path, routes(*(fake.url for fake in fakes))) as running,
    ):
        body = {"model": "m", "input": "hi", "previous_response_id": previous}
        assert (await ask(running.port, body, path="/v1/responses")).status == 200
        (call,) = (call for fake in fakes for call in fake.calls)
        assert call.head.startswith(b"POST /v1/responses HTTP/1.1\r\n")
        assert json.loads(call.body) == body


@pytest.mark.parametrize("previous", [*ODD, 7])
async def test_nor_does_it_reach_what_may_be_anothers(tmp_path: Path, previous: object) -> None:
    async with backends(good) as (fake,):
        async with gateway(tmp_path, with_tenants({"m": {"backends": [fake.url]}}, {"a": {}, "b": {}})) as running:
            body = {"model": "m", "input": "hi", "previous_response_id": previous}
            answer = await ask(running.port, body, path="/v1/responses", headers=key("a"))
            assert (answer.status, len(answer.body) < 600) == (404, True)
            assert not fake.calls
