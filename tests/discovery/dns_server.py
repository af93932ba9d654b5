"""A small name server on loopback, which answers, fails or keeps silent as a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from loadtest.bench.listening import Listener

Mode = Literal["answers", "silent", "SERVFAIL", "REFUSED", "NXDOMAIN", "no data"]


@dataclass
class DnsServer:
    """Answers from `records`: by kind and name, without a dot at its end. Names that are not there do not exist.

    `partly` may choose what of the records is answered.
    """

    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    ttl: int = 0
    mode: Mode = "answers"
    partly: Callable[[list[str]], list[str]] | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def where(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def answer(self, data: bytes) -> bytes | None:
        question = dns.message.from_wire(data)
        name, kind = question.question[0].name, dns.rdatatype.to_text(question.question[0].rdtype)
        text = name.to_text(omit_final_dot=True).lower()
        self.asked.append((kind, text))
        if self.mode == "silent":
            return None
        response = dns.message.make_response(question)
        response.flags |= dns.flags.RA
        exists = any(known == text for _, known in self.records)
        if self.mode in {"SERVFAIL", "REFUSED"}:
            response.set_rcode(dns.rcode.from_text(self.mode))
        elif self.mode == "NXDOMAIN" or (not exists and self.mode != "no data"):
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif self.mode != "no data" and (found := self.records.get((kind, text), [])):
            found = self.partly(found) if self.partly else found
            if found:
                response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", kind, *found))
        return response.to_wire(max_size=65535)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        answer = self._server.answer(data)
        if answer is None:
            return
        if len(answer) > 1232:  # what does not fit is asked for again by TCP
            response = dns.message.from_wire(answer)
            response.answer.clear()
            response.flags |= dns.flags.TC
            answer = response.to_wire()
        self._transport.sendto(answer, addr)


@asynccontextmanager
async def dns_server(**options: Any) -> AsyncIterator[DnsServer]:
    """Serve names by UDP and TCP on one free port until the block ends."""
    server = DnsServer(**options)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        answer = server.answer(await reader.readexactly(length))
        if answer is not None:
            writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()

    by_tcp = Listener(serve)
    server.port = await by_tcp.start()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(server), local_addr=server.where)
    try:
        yield server
    finally:
        transport.close()
        await by_tcp.stop()
