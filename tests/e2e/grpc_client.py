"""KEDA's side of the external scaler: a process beside a gateway, and calls as the published proto has them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.e2e.processes import Process, running
from tests.scaler.published import PACKAGE, message


@asynccontextmanager
async def scaler(gateway: Process) -> AsyncIterator[str]:
    """Run one beside a gateway; returns its address."""
    arguments = ("--listen", "127.0.0.1:0", "--admin", gateway.urls[1])
    async with running("gateway.cli", "scaler", *arguments) as process:
        yield (await process.said("tidegate scaler on")).split()[3].rstrip(",")
        process.process.terminate()
        assert await process.ended() == 0


def call(channel: Any, method: str, answer: str, *, stream: bool = False) -> Any:
    make = channel.unary_stream if stream else channel.unary_unary
    return make(
        f"/{PACKAGE}.ExternalScaler/{method}",
        request_serializer=lambda sent: sent.SerializeToString(),
        response_deserializer=message(answer).FromString,
    )
