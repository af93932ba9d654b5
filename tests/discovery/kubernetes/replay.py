"""An API server that says, byte for byte, what files in `streams` hold, cut up in any way that HTTP allows."""

import asyncio
import json
import lzma
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from loadtest.bench.listening import Listener
from tests.discovery.kubernetes.api_server import PATHS

STREAMS = Path(__file__).parent / "streams"
_BUFFER = 2048
"""Bytes that Go's server gathers for a chunk."""
_ITEMS = '"items":['

Cut: TypeAlias = Callable[[bytes], Iterator[bytes]]
"""Cuts a body into the contents of its chunks."""


def head_and_body(name: str) -> tuple[bytes, bytes]:
    """Return what a file holds; long ones are packed."""
    file, packed = STREAMS / f"{name}.txt", STREAMS / f"{name}.txt.xz"
    text = file.read_bytes() if file.exists() else lzma.decompress(packed.read_bytes())
    head, _, body = text.partition(b"\r\n\r\n")
    return head, body


def last_version(name: str) -> str:
    """Return the version that a list, or the last event of a watch, tells."""
    told = json.loads(head_and_body(name)[1].splitlines()[-1])
    return str(told.get("object", told)["metadata"]["resourceVersion"])


def as_go(body: bytes) -> Iterator[bytes]:
    """Cut as the API server does: each event is a chunk; a list is written item by item through Go's buffer."""
    return iter(body.splitlines(keepends=True)) if _is_watch(body) else _buffered(_written(body))


def in_a_row(body: bytes) -> Iterator[bytes]:
    """Cut as the API server does where events come faster than it sends them: those share the buffer."""
    return _buffered(body.splitlines(keepends=True) if _is_watch(body) else _written(body))


def _is_watch(body: bytes) -> bool:
    return body.startswith(b'{"type":')


def _buffered(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Cut what is written in these parts. One that does not fit into the buffer fills it first, which makes a chunk.

    What is left of it is another chunk if it is longer than the whole buffer.
    """
    held = b""
    for part in parts:
        rest = part
        if held and len(held) + len(rest) > _BUFFER:
            room = _BUFFER - len(held)
            yield held + rest[:room]
            held, rest = b"", rest[room:]
        if len(rest) > _BUFFER:
            yield rest
        else:
            held += rest
    if held:
        yield held


def _written(body: bytes) -> Iterator[bytes]:
    """Return what the API server writes at once: of a list the beginning, each item, what is between, and the end."""
    text = body.decode("latin-1")  # a character is a byte
    place = text.find(_ITEMS) + len(_ITEMS)
    if place < len(_ITEMS) or text[place] == "]":
        yield body
        return
    yield body[:place]
    while True:
        end = json.JSONDecoder().raw_decode(text, place)[1]
        yield body[place:end]
        if text[end] != ",":
            break
        yield b","
        place = end + 1
    yield body[end:]


def as_older_go(body: bytes) -> Iterator[bytes]:
    """Cut as older API servers do: also within an event, where Go's buffer is full.

    See kubernetes-client/python pull request 2100.
    """
    for line in body.splitlines(keepends=True):
        for start in range(0, len(line), _BUFFER):
            yield line[start : start + _BUFFER]


def at_once(body: bytes) -> Iterator[bytes]:
    yield body


def by_bytes(body: bytes) -> Iterator[bytes]:
    for number in range(len(body)):
        yield body[number : number + 1]


def at_random(seed: int) -> Cut:
    """Return what cuts into pieces of any length, most of which end amid an event."""

    def cut(body: bytes) -> Iterator[bytes]:
        rng = random.Random(seed)
        while body:
            length = rng.choice((1, 2, 7, 100, 1000, 5000))
            yield body[:length]
            body = body[length:]

    return cut


@dataclass(frozen=True)
class Said:
    """One answer. `more` are other headers; after it the connection `closes`, or `holds` open without an end.

    One that `breaks` has no end either: there the connection was lost.
    """

    name: str
    cut: Cut = as_go
    more: bytes = b""
    closes: bool = False
    holds: bool = False
    breaks: bool = False
    pause: float = 0.0
    """Seconds between two chunks."""
    in_bytes: bool = False
    """Whether the chunks' own frames come byte by byte, too."""

    def written(self) -> Iterator[bytes]:
        head, body = head_and_body(self.name)
        parts = [head + b"\r\n" + self.more + b"transfer-encoding: chunked\r\n\r\n"]
        parts += [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in self.cut(body)]
        parts += [] if self.holds or self.breaks else [b"0\r\n\r\n"]
        return by_bytes(b"".join(parts)) if self.in_bytes else iter(parts)


@dataclass
class Replay:
    """Answers to lists and watches of each kind, one after the other; when there are no more, connections close."""

    answers: dict[str, list[Said]]
    token: str | None = "s3cret"
    url: str = ""
    asked: list[str] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            target = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
            self.asked.append(target)
            path, _, query = target.partition("?")
            waiting = self.answers.get(f"{'watch' if 'watch=true' in query else 'list'} {PATHS[path]}", [])
            if not waiting:
                return
            said = waiting.pop(0)
            for part in said.written():
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(said.pause)
            if said.holds:
                await reader.read()
            if said.closes or said.breaks:
                return


@asynccontextmanager
async def replaying(**answers: list[Said]) -> AsyncIterator[Replay]:
    """Replay answers, named as in `list_pods`, until the block ends."""
    replay = Replay({name.replace("_", " "): said for name, said in answers.items()})
    listener = Listener(replay.serve)
    replay.url = f"http://127.0.0.1:{await listener.start()}"
    try:
        yield replay
    finally:
        await listener.stop()
