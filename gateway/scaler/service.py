"""KEDA's external scaler over gRPC: what a pool wants, and a push when one that has no replica wants its first.

Needs `grpcio`, which is the extra `grpc`: nothing else of the gateway imports this.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio

from gateway.scaler.messages import MessageError, MetricsRequest, ScaledObjectRef, active, metric_spec, metric_value
from gateway.scaler.wants import UnknownPool, UnknownWant, Wants

SERVICE = "externalscaler.ExternalScaler"
TARGET = 1.0
"""What is told is the whole want, so a replica counts 1."""
MOST_BYTES = 64 * 1024
MOST_STREAMS = 1000
"""KEDA has one for each trigger. Other calls are over at once, so they need no bound."""
_KEEP_ALIVE = 60_000
"""Milliseconds of silence after which a client is asked whether it is there: one that is gone gives its places back."""
_Context = Any


class ExternalScaler:
    """The calls of the service. The trigger's metadata says which `pool` is meant."""

    def __init__(self, wants: Wants, most_streams: int) -> None:
        self._wants = wants
        self._most_streams = most_streams
        self._streams = 0

    def handler(self) -> Any:
        """Return what a gRPC server needs to answer the calls."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "IsActive": grpc.unary_unary_rpc_method_handler(self.is_active),
                "StreamIsActive": grpc.unary_stream_rpc_method_handler(self.stream_is_active),
                "GetMetricSpec": grpc.unary_unary_rpc_method_handler(self.metric_spec),
                "GetMetrics": grpc.unary_unary_rpc_method_handler(self.metrics),
            },
        )

    async def is_active(self, request: bytes, context: _Context) -> bytes:
        """Tell whether the pool wants any replica."""
        pool = await _pool(_read(request), context)
        return active(is_active=await self._told(self._wants.is_active, pool, context))

    async def stream_is_active(self, request: bytes, context: _Context) -> AsyncIterator[bytes]:
        """Tell so now, and whenever it changes."""
        pool = await _pool(_read(request), context)
        if self._streams >= self._most_streams:
            words = f"{self._streams} streams are open, and there may be no more"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, words)
        self._streams += 1
        try:
            async for found in self._wants.activity(pool):
                yield active(is_active=found)
        except UnknownPool as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        finally:
            self._streams -= 1

    async def metric_spec(self, request: bytes, context: _Context) -> bytes:
        """Name the metric and its target."""
        return metric_spec(_name(await _pool(_read(request), context)), TARGET)

    async def metrics(self, request: bytes, context: _Context) -> bytes:
        """Tell how many replicas the pool wants."""
        try:
            asked = MetricsRequest.read(request)
        except MessageError:
            asked = MetricsRequest()
        pool = await _pool(asked.scaled_object, context)
        return metric_value(asked.metric or _name(pool), await self._told(self._wants.value, pool, context))

    async def _told(self, what: Callable[[str], Any], pool: str, context: _Context) -> Any:
        """Return what is known of a pool, or end the call: KEDA then keeps what it has, or falls back."""
        try:
            return what(pool)
        except UnknownPool as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except UnknownWant as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))


def _read(request: bytes) -> ScaledObjectRef:
    try:
        return ScaledObjectRef.read(request)
    except MessageError:
        return ScaledObjectRef()


async def _pool(asked: ScaledObjectRef, context: _Context) -> str:
    pool = asked.metadata.get("pool", "")
    if not pool:
        words = "the trigger's metadata has no `pool`: write `pool: NAME` beside `scalerAddress`"
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, words)
    return pool


def _name(pool: str) -> str:
    return f"wanted-replicas-{pool}"


async def serve(
    wants: Wants, address: str, credentials: Any, started: Callable[[int], None], *, grace: float = 1.0
) -> None:
    """Answer at an address until cancelled; `started` is told the port. Raises OSError where it cannot be bound."""
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MOST_BYTES),
            ("grpc.keepalive_time_ms", _KEEP_ALIVE),
            ("grpc.http2.max_pings_without_data", 0),  # a stream may have nothing to tell for days
        ]
    )
    server.add_generic_rpc_handlers((ExternalScaler(wants, MOST_STREAMS).handler(),))
    try:
        port = (
            server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
        )
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from error
    if not port:
        raise OSError(f"cannot listen on {address}")
    await server.start()
    started(port)
    try:
        await server.wait_for_termination()
    finally:
        await server.stop(grace)
