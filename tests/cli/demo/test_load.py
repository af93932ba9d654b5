import asyncio
from collections import Counter
from random import Random

import httpx
import pytest

from gateway.cli.demo.load import MODEL, MOST_AT_ONCE, Load, draw
from tests.waiting import DEADLINE

DRAWS = 4000


class TestWhatIsAsked:
    def test_most_are_streamed_chats_and_every_kind_occurs(self) -> None:
        rng = Random(1)
        kinds = Counter((path, bool(body.get("stream"))) for path, body in (draw(rng) for _ in range(DRAWS)))

        shares = {kind: count / DRAWS for kind, count in kinds.items()}
        assert shares == {
            ("/v1/chat/completions", True): pytest.approx(0.80, abs=0.03),
            ("/v1/chat/completions", False): pytest.approx(0.10, abs=0.02),
            ("/v1/completions", True): pytest.approx(0.05, abs=0.02),
            ("/v1/embeddings", False): pytest.approx(0.05, abs=0.02),
        }

    def test_answers_are_short_and_all_are_for_the_one_model(self) -> None:
        rng = Random(1)
        bodies = [draw(rng)[1] for _ in range(DRAWS)]

        assert {body["model"] for body in bodies} == {MODEL}
        assert max(body.get("max_tokens", 0) for body in bodies) <= 64

    def test_a_seed_asks_the_same_again(self) -> None:
        assert [draw(Random(7)) for _ in range(3)] == [draw(Random(7)) for _ in range(3)]


@pytest.mark.anyio
class TestRunning:
    async def test_however_high_the_rate_only_so_many_are_asked_at_once(self) -> None:
        asked, most, full, release = 0, 0, asyncio.Event(), asyncio.Event()

        async def hang(_: httpx.Request) -> httpx.Response:
            nonlocal asked, most
            asked += 1
            most = max(most, asked)
            if asked == MOST_AT_ONCE:
                full.set()
            await release.wait()
            asked -= 1
            return httpx.Response(200)

        async with httpx.AsyncClient(transport=httpx.MockTransport(hang), base_url="http://x") as client:
            load = Load(client, 1e6, Random(0))
            running = asyncio.create_task(load.run())
            async with asyncio.timeout(DEADLINE):
                await full.wait()
            for _ in range(1000):
                await asyncio.sleep(0)

            assert most == MOST_AT_ONCE
            assert repr(load) == f"<Load 1e+06/s {MOST_AT_ONCE} in flight>"
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert repr(load) == "<Load 1e+06/s 0 in flight>"

    async def test_a_request_that_fails_does_not_end_it(self) -> None:
        enough, asked = asyncio.Event(), 0

        def fail(request: httpx.Request) -> httpx.Response:
            nonlocal asked
            asked += 1
            if asked == 5:
                enough.set()
            raise httpx.ConnectError("refused", request=request)

        async with httpx.AsyncClient(transport=httpx.MockTransport(fail), base_url="http://x") as client:
            running = asyncio.create_task(Load(client, 1e6, Random(0)).run())
            async with asyncio.timeout(DEADLINE):
                await enough.wait()

            assert not running.done()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
