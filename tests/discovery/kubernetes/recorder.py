"""Asks a real API server as the gateway does, and keeps its answers as they come."""

import asyncio
import json
import lzma
import ssl
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from gateway.discovery.kubernetes.resources import Collection
from tests.discovery.kubernetes.objects import Json
from tests.discovery.kubernetes.real_cluster import RealCluster
from tests.discovery.kubernetes.replay import STREAMS, as_go

_FRAMING: Final = (b"transfer-encoding", b"content-length")


@dataclass
class Recording:
    """One answer, as it comes."""

    head: bytes = b""
    body: bytearray = field(default_factory=bytearray)
    sizes: list[int] = field(default_factory=list)
    whole: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def json(self) -> Json:
        made: Json = json.loads(self.body)
        return made

    @property
    def version(self) -> str:
        return str(self.json["metadata"]["resourceVersion"])

    async def has(self, text: bytes, times: int = 1) -> None:
        """Wait until something has come so many times."""
        async with asyncio.timeout(180):
            while self.body.count(text) < times:
                await asyncio.sleep(0.02)

    async def ended(self) -> "Recording":
        assert self.task is not None
        await self.task
        return self

    def save(self, name: str, *, packed: bool = False) -> None:
        """Save it without the headers that tell of its framing, which is another each time that it is replayed."""
        lines = [line for line in self.head.split(b"\r\n") if not line.lower().startswith(_FRAMING)]
        text = b"\r\n".join(lines) + b"\r\n\r\n" + bytes(self.body)
        if packed:
            (STREAMS / f"{name}.txt.xz").write_bytes(lzma.compress(text, preset=9))
        else:
            (STREAMS / f"{name}.txt").write_bytes(text)
        assumed = [len(piece) for piece in as_go(bytes(self.body))]
        said = f"{len(self.body)} bytes in {len(self.sizes)} chunks"
        as_assumed = "" if assumed == self.sizes else f", in other chunks than `as_go` makes: {self.sizes[:12]}"
        sys.stdout.write(f"{name}: {lines[0].decode()}, {said}{as_assumed}{'' if self.whole else ', broken'}\n")


@dataclass
class Recorder:
    """Asks as the gateway does."""

    cluster: RealCluster
    token: str

    async def open(self, collection: Collection[Any], **parameters: str) -> Recording:
        """Ask, and return the answer once it has begun."""
        query = urlencode({**collection.selection, **parameters})
        trust = ssl.create_default_context(cafile=self.cluster.authority)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.cluster.port, ssl=trust)
        head = [
            f"GET {collection.path}?{query} HTTP/1.1",
            f"host: 127.0.0.1:{self.cluster.port}",
            "accept: application/json",
            "accept-encoding: identity",
            "user-agent: tidegate",
            f"authorization: Bearer {self.token}",
        ]
        writer.write("\r\n".join([*head, "", ""]).encode())
        recording = Recording()
        recording.task = asyncio.create_task(_read(reader, writer, recording))
        await recording.begun.wait()
        return recording

    async def list(self, collection: Collection[Any], **parameters: str) -> Recording:
        return await (await self.open(collection, limit="100", **parameters)).ended()

    async def watch(self, collection: Collection[Any], version: str, seconds: int) -> Recording:
        asked = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        return await self.open(collection, **asked, timeoutSeconds=str(seconds))

    async def save_pages(self, collection: Collection[Any], name: str) -> None:
        """Save a list with its second page, where it has one."""
        first = await self.list(collection)
        first.save(name, packed=True)
        more = first.json["metadata"].get("continue")
        if more:
            (await self.list(collection, **{"continue": more})).save(f"{name}_rest", packed=True)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, recording: Recording) -> None:
    try:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            recording.head = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
            recording.begun.set()
            headers = dict(line.lower().split(b": ", 1) for line in recording.head.split(b"\r\n")[1:])
            if b"content-length" in headers:
                recording.body += await reader.readexactly(int(headers[b"content-length"]))
                recording.sizes = [len(recording.body)]
                recording.whole = True
                return
            while size := int(await reader.readuntil(b"\r\n"), 16):
                recording.body += (await reader.readexactly(size + 2))[:-2]
                recording.sizes.append(size)
            recording.whole = True
    finally:
        recording.begun.set()
        writer.close()
