"""What a probe asks, and what it makes of the answers."""

import asyncio
from time import monotonic

import pytest

from gateway.backends.probe import ProbeResult, probe, question
from gateway.config.table import BackendSpec
from gateway.wire.control_client import ControlClient
from loadtest.bench.listening import listening
from tests.backends.made import live_backend
from tests.waiting import DEADLINE

pytestmark = pytest.mark.anyio
MODELS = b'{"data":[{"id":"m","max_model_len":4096}]}'


def answer(status: bytes, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


WELL, LISTED = answer(b"200 OK"), answer(b"200 OK", MODELS)


async def probed(health: bytes, models: bytes, patience: float = DEADLINE) -> tuple[ProbeResult, list[bytes]]:
    """Probe an engine that answers so; return what was found, and what was asked."""
    paths: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            paths.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
            writer.write(health if paths[-1] == b"/health" else models)

    async with listening(serve) as url:
        port = int(url.rpartition(":")[2])
        backend = live_backend(BackendSpec("gpu", url, "127.0.0.1", port))
        client = ControlClient("127.0.0.1", port, tls=None, clock=monotonic)
        found = await probe(client, backend, patience=patience, until=monotonic() + DEADLINE)
        client.close()
    return found, paths


@pytest.mark.parametrize(
    ("health", "models", "found"),
    [
        (WELL, LISTED, ProbeResult(None, models={"m": 4096})),
        (WELL, answer(b"404 Not Found"), ProbeResult(None)),
        (WELL, answer(b"401 Unauthorized", MODELS), ProbeResult(None)),
        (WELL, answer(b"307 Temporary Redirect\r\nlocation: /v2/models"), ProbeResult(None)),
        (WELL, answer(b"200 OK", b"[]"), ProbeResult(None)),
        (answer(b"404 Not Found"), LISTED, ProbeResult(None, models={"m": 4096})),
        (answer(b"302 Found\r\nlocation: /login"), LISTED, ProbeResult(None, models={"m": 4096})),
        (answer(b"503 Service Unavailable"), LISTED, ProbeResult("/health answers 503")),
        (answer(b"508 Loop Detected"), LISTED, ProbeResult("it is this gateway itself: what is sent there comes back")),
        (WELL, answer(b"500 Internal Server Error"), ProbeResult("/v1/models answers 500")),
    ],
)
async def test_it_says_what_it_found(health: bytes, models: bytes, found: ProbeResult) -> None:
    told, paths = await probed(health, models)
    assert told == found
    asked_for_models = found.failure is None or "models" in found.failure
    assert paths == [b"/health", b"/v1/models"][: 1 + asked_for_models]


async def test_known_models_are_believed_where_they_are_not_asked_for() -> None:
    paths: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            paths.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
            writer.write(WELL)

    async with listening(serve) as url:
        port = int(url.rpartition(":")[2])
        backend = live_backend(BackendSpec("gpu", url, "127.0.0.1", port))
        backend.availability.list_models({"known": 1})
        client = ControlClient("127.0.0.1", port, tls=None, clock=monotonic)
        found = await probe(client, backend, models=False, patience=DEADLINE, until=monotonic() + DEADLINE)
        client.close()
    assert found == ProbeResult(None, models={"known": 1})
    assert paths == [b"/health"]


async def test_an_engine_that_gives_no_answer_in_time_is_silent() -> None:
    told, _ = await probed(b"", LISTED, 0.05)
    assert told == ProbeResult("no answer to a probe in time", silent=True)


async def test_one_that_talks_nonsense_has_failed() -> None:
    told, _ = await probed(b"220 smtp ready\r\n", LISTED)
    assert not told.silent
    assert told.failure is not None
    assert told.failure.startswith("probe failed: the answer is not proper HTTP: ")


def test_a_control_call_carries_the_engines_own_key_and_path_and_nothing_of_clients() -> None:
    spec = BackendSpec("gpu", "http://[::1]:8000/engine", "::1", 8000, base_path="/engine", api_key="secret")
    asked = question(live_backend(spec), b"/health", b"x-gateway-hops: me\r\n")
    assert asked.split(b"\r\n") == [
        b"GET /engine/health HTTP/1.1",
        b"host: [::1]:8000",
        b"accept: */*",
        b"accept-encoding: identity",
        b"user-agent: tidegate",
        b"authorization: Bearer secret",
        b"x-gateway-hops: me",
        b"",
        b"",
    ]
