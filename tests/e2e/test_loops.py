"""Routes that lead back to the gateway itself: what comes back is refused, and nothing goes round."""

from pathlib import Path

import pytest

from gateway.proxy.hops import MOST
from tests.e2e.fakes import backends, good
from tests.e2e.harness import Running, ask, chat, gateway, routes
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio


async def lead_to(running: Running, folder: Path, url: str) -> None:
    (folder / "routes.yaml").write_text(routes(url))
    await running.app.control.reloader.reload()


async def test_a_backend_that_is_the_gateway_itself_is_asked_once_and_not_ready(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        await lead_to(running, tmp_path, running.data)
        answer = await ask(running.port, chat())
        assert answer.status in {508, 503}, "before the first probe, or after it"
        itself = running.backend()
        await eventually(lambda: itself.readiness.state == "not_ready")
        assert "this gateway itself" in itself.readiness.reason
        before = len(running.records.attempts)
        assert before <= 1
        answer = await ask(running.port, chat())
        assert (answer.status, answer.json["error"]["code"]) == (503, "no_ready_backend")
        assert len(running.records.attempts) == before
        await running.quiet()


async def test_a_loop_by_way_of_another_gateway_ends_where_it_comes_back(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as one:
        async with gateway(tmp_path / "other", routes(one.data)) as other:
            await lead_to(one, tmp_path, other.data)
            await one.ready()
            answer = await ask(one.port, chat())
            assert (answer.status, answer.json["error"]["code"]) == (508, "loop_detected")
            assert "leads back to it" in answer.json["error"]["message"]
            assert (len(one.records.attempts), len(other.records.attempts)) == (1, 1)
            await one.quiet()


async def test_gateways_may_stand_in_a_row_up_to_a_bound(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as inner:
        async with gateway(tmp_path / "other", routes(inner.data)) as outer:
            assert (await ask(outer.port, chat())).status == 200
            (passed,) = [line for line in fake.calls[-1].head.split(b"\r\n") if line.startswith(b"x-gateway-hops: ")]
            assert passed.count(b",") == 1, "two names"
            few = ", ".join("abcdefgh"[: MOST - 2])
            assert (await ask(outer.port, chat(), headers=f"x-gateway-hops: {few}\r\n")).status == 200
            answer = await ask(outer.port, chat(), headers=f"x-gateway-hops: {few}, x\r\n")
            assert (answer.status, answer.json["error"]["code"]) == (508, "loop_detected")
            answer = await ask(outer.port, chat(), headers=f"x-gateway-hops: {few}, x, y\r\n")
            assert answer.status == 508
            async with patient_client() as web:
                assert (await web.get(f"{outer.data}/health")).status_code == 200
