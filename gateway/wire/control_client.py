"""Asks one engine the gateway's own questions, such as whether it lives: small requests on one kept connection."""

import asyncio
import ssl
from typing import cast

from gateway.clock import Clock
from gateway.wire.control_answer import ControlAnswer
from gateway.wire.control_connection import ControlConnection, ControlError, SilentError, StaleError
from gateway.wire.dial import first_of
from gateway.wire.names import Lookup, Name


class ControlClient:
    """Keeps at most one idle connection; a question that comes while another is open has a connection of its own."""

    __slots__ = ("_closed", "_kept", "_name", "_tls", "host", "opened", "port")

    def __init__(
        self, host: str, port: int, *, tls: ssl.SSLContext | None, clock: Clock, lookup: Lookup | None = None
    ) -> None:
        self.host = host
        self.port = port
        self.opened = 0
        self._tls = tls
        self._name = Name(host, port, clock, lookup)
        self._kept: ControlConnection | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<ControlClient {self.host}:{self.port} {'idle' if self._kept is None else 'kept'}>"

    async def ask(self, request: bytes, *, most: int, patience: float, until: float) -> ControlAnswer:
        """Send a request without a body and return its answer, with at most so many bytes of a body.

        Connecting may take `patience` seconds, and so may each piece of the answer; all of it has time `until` then, by
        the loop's time. Raises ControlError. A kept connection that turns out to be closed is replaced once.
        """
        kept = self._take()
        if kept is not None:
            try:
                return await self._answered(kept, request, most, patience, until)
            except StaleError:
                pass
        seconds = max(0.0, min(patience, until - asyncio.get_running_loop().time()))
        return await self._answered(await self._connected(seconds), request, most, patience, until)

    def close(self) -> None:
        """Close the connection that is kept, and keep none from now on."""
        self._closed = True
        if self._kept is not None:
            self._kept.transport.close()
            self._kept = None

    def _take(self) -> ControlConnection | None:
        """Return the kept connection, unless it is gone or leads to an address that the name has no more."""
        self._name.renew()
        kept, self._kept = self._kept, None
        if kept is None or kept.transport.is_closing():
            return None
        if kept.address in self._name.left:
            kept.transport.close()
            return None
        return kept

    async def _answered(
        self, connection: ControlConnection, request: bytes, most: int, patience: float, until: float
    ) -> ControlAnswer:
        try:
            answer = await connection.ask(request, most, patience, until)
        except BaseException:
            connection.abort()
            raise
        if connection.transport.is_closing():
            return answer
        if self._closed or self._kept is not None:
            connection.transport.close()
        else:
            self._kept = connection
        return answer

    async def _connected(self, seconds: float) -> ControlConnection:
        try:
            async with asyncio.timeout(seconds):
                addresses = await self._name.find()
                connection = await first_of(addresses, self._dial, lambda late: late.transport.close())
        except TimeoutError:
            raise SilentError(f"no connection within {seconds:g} s") from None
        except OSError as error:
            raise ControlError(f"{error.strerror or error}") from None
        self.opened += 1
        return connection

    async def _dial(self, address: str) -> ControlConnection:
        loop = asyncio.get_running_loop()
        connection = ControlConnection(address, loop.time)
        await loop.create_connection(
            lambda: cast(asyncio.Protocol, connection),
            address,
            self.port,
            ssl=self._tls,
            server_hostname=self.host if self._tls else None,
        )
        return connection
