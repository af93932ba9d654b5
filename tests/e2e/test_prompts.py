"""A request that asks for many answers at once: several prompts, several choices, the best of several."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import AttemptEnd, Outcome
from tests.e2e.fakes import DONE, LAST_CHUNK, STREAM_HEAD, Call, backends, chunked, good
from tests.e2e.harness import ask, gateway, routes

pytestmark = pytest.mark.anyio
PATH = "/v1/completions"
LIMIT = 1_000
HEADERS = "authorization: Bearer sk-t\r\n"


def limited(url: str) -> str:
    spec = json.loads(routes(url))
    spec["tenants"] = {
        "t": {"key_sha256": sha256(b"sk-t").hexdigest(), "limits": {"tokens_per_minute": LIMIT, "concurrent": 2}}
    }
    return json.dumps(spec)


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": ["a"] * 200, "max_tokens": 400},
        {"prompt": [[1]] * 200, "max_tokens": 400},
        {"prompt": ["a" * 400] * 200, "max_tokens": 10},  # a body that is read in slices
        {"prompt": "a", "max_tokens": 400, "n": 8},
        {"prompt": "a", "max_tokens": 400, "best_of": 8},
        {"prompt": "a", "max_tokens": 90_000, "max_completion_tokens": 1},
        {"prompt": ["a", "b"], "max_tokens": 300, "n": 2},
    ],
)
async def test_a_tenant_pays_for_all_answers_that_it_may_get(tmp_path: Path, asked: dict[str, Any]) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, limited(fake.url)) as running:
        answer = await ask(running.port, {"model": "m", **asked}, path=PATH, headers=HEADERS)
        assert (answer.status, answer.json["error"]["code"]) == (429, "rate_limit_exceeded")
        assert fake.calls == []
        await running.quiet()


@pytest.mark.parametrize(
    ("asked", "charged"),
    [
        ({"prompt": "a", "max_tokens": 400}, 400),
        ({"prompt": list(range(200)), "max_tokens": 400}, 400),
        ({"prompt": ["a", "b"], "max_tokens": 300}, 600),
        ({"prompt": "a", "max_tokens": 90, "best_of": 4, "n": 2}, 360),
    ],
)
async def test_a_tenant_pays_for_no_more_than_that(tmp_path: Path, asked: dict[str, Any], charged: int) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, limited(fake.url)) as running:
        answer = await ask(running.port, {"model": "m", **asked}, path=PATH, headers=HEADERS)
        assert answer.status == 200
        left = int(answer.headers["x-ratelimit-remaining-tokens"])
        prompt = len(fake.calls[0].body) // 2  # at most: bytes of the body
        assert LIMIT - charged - prompt <= left < LIMIT - charged
        await running.quiet()


def text(index: int, words: str, finish: str | None = None) -> bytes:
    choice = {"index": index, "text": words, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"id": "cmpl-1", "choices": [choice]}, separators=(",", ":")).encode()


FIRST = chunked(text(0, "a"), text(1, "b"), text(0, "c", "length"))
"""Two answers, of which one is whole."""


@pytest.mark.parametrize("asked", [{"prompt": ["x", "y"]}, {"prompt": [[1], [2]]}, {"prompt": "x", "n": 2}])
async def test_a_cut_among_several_answers_is_a_cut(tmp_path: Path, asked: dict[str, Any]) -> None:
    async def cut(call: Call) -> None:
        await call.send(STREAM_HEAD, FIRST, chunked(text(1, "still going")) + LAST_CHUNK)

    async with backends(cut) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, {"model": "m", "stream": True, **asked}, path=PATH)
        assert (answer.complete, DONE in answer.body) == (False, False)
        assert (await running.settled()).outcome is Outcome.TRUNCATED
        assert [end for _, end in running.records.attempts] == [AttemptEnd.TRUNCATED]


@pytest.mark.parametrize(
    "asked", [{"prompt": ["x", "y"]}, {"prompt": "x", "n": 2}, {"prompt": "x", "n": 2, "best_of": 4}]
)
async def test_several_answers_that_have_all_come_are_whole(tmp_path: Path, asked: dict[str, Any]) -> None:
    async def without_done(call: Call) -> None:
        await call.send(STREAM_HEAD, FIRST, chunked(text(1, "d", "stop")) + LAST_CHUNK)

    async with backends(without_done) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, {"model": "m", "stream": True, **asked}, path=PATH)
        assert (answer.complete, answer.body.endswith(DONE)) == (True, True)
        assert (await running.settled()).outcome is Outcome.OK


async def test_a_list_of_prompts_says_no_more_of_one_answer_than_a_single_one(tmp_path: Path) -> None:
    async def long(call: Call) -> None:
        usage = b'"usage":{"prompt_tokens":100,"completion_tokens":1000,"total_tokens":1100}'
        body = b'{"id":"cmpl-1","choices":[],%b,"pad":"%b"}' % (usage, b"x" * 2_000)
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
        await call.send(body)

    async with backends(long) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        prompts = next(iter(running.app.data.current.table)).memory.prompts
        prompts.output = 10.0
        assert (await ask(running.port, {"model": "m", "prompt": ["x"] * 100}, path=PATH)).status == 200
        assert (await running.settled()).output_tokens == 1000
        assert prompts.output == pytest.approx(10.0), "a hundred answers of ten tokens"
