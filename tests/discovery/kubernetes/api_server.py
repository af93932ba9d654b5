"""A Kubernetes API server on a socket, as far as lists and watches go, that fails in each way that it is told to."""

import asyncio
import base64
import copy
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from loadtest.bench.listening import Listener
from tests.discovery.kubernetes.objects import Json

KINDS = {
    "endpointslices": ("/apis/discovery.k8s.io/v1", "EndpointSlice"),
    "pods": ("/api/v1", "Pod"),
    "inferencepools": ("/apis/inference.networking.k8s.io/v1", "InferencePool"),
}
PATHS = {f"{root}/namespaces/serving/{plural}": plural for plural, (root, _) in KINDS.items()}
TEXTS = {401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 410: "Gone", 429: "Too Many Requests"}


@dataclass(frozen=True)
class Change:
    """One write: an object before and after it."""

    version: int
    plural: str
    before: Json | None
    after: Json | None


@dataclass(eq=False)
class Watch:
    """One watch that is open."""

    plural: str
    parameters: dict[str, str]
    writer: asyncio.StreamWriter
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, kind: str, sent: Json) -> None:
        self.raw(json.dumps({"type": kind, "object": sent}, separators=(",", ":")).encode() + b"\n")

    def raw(self, text: bytes) -> None:
        """Send what may be no line."""
        if not self.writer.is_closing():
            self.writer.write(b"%x\r\n%b\r\n" % (len(text), text))

    def end(self) -> None:
        """End as the API server does after `timeoutSeconds`."""
        if not self.writer.is_closing():
            self.writer.write(b"0\r\n\r\n")
        self.ended.set()

    def cut(self) -> None:
        """Break the connection."""
        self.writer.close()
        self.ended.set()


@dataclass
class ApiServer:
    """Objects with their history, and requests for them.

    `status` answers every request with a failure; `hangs` answers none; `quiet` watches are told nothing and do not
    end. A watch of a version that is `forgotten` is refused by an event, or by its status. `page` is the most that is
    listed at once, whatever the limit. `forbidden` kinds are refused, `unknown` ones not found.
    """

    token: str | None = "s3cret"
    status: int | None = None
    retry_after: str | None = None
    hangs: bool = False
    quiet: bool = False
    gone_as_event: bool = True
    page: int | None = None
    forbidden: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    port: int = 0
    version: int = 5_493_506_153
    forgotten: int = 0
    objects: dict[str, dict[str, Json]] = field(default_factory=lambda: {plural: {} for plural in KINDS})
    history: list[Change] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)
    lists: int = 0
    watched: int = 0
    requests: list[str] = field(default_factory=list)
    listener: Listener | None = None
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.listener = Listener(self._serve)
        self.port = await self.listener.start(self.port, tls=self.tls)

    async def stop(self) -> None:
        if self.listener is not None:
            await self.listener.stop()
        self.listener = None
        self.watches.clear()

    def put(self, *made: Json) -> None:
        """Create or replace objects, each in a write of its own."""
        for each in made:
            plural = next(plural for plural, (_, kind) in KINDS.items() if kind == each["kind"])
            self._write(plural, each["metadata"]["name"], copy.deepcopy(each))

    def delete(self, plural: str, name: str) -> None:
        self._write(plural, name, None)

    def _write(self, plural: str, name: str, after: Json | None) -> None:
        self.version += 1
        before = self.objects[plural].get(name)
        if after is None:
            del self.objects[plural][name]
        else:
            after["metadata"]["resourceVersion"] = str(self.version)
            self.objects[plural][name] = after
        change = Change(self.version, plural, before, after)
        self.history.append(change)
        for watch in self.watches if not self.quiet else ():
            tell(watch, change)

    def forget(self) -> None:
        """Compact: what changed until now can be watched no more."""
        self.version += 1
        self.forgotten = self.version
        self.history.clear()

    def bookmark(self) -> None:
        for watch in self.watches:
            root, kind = KINDS[watch.plural]
            metadata = {"resourceVersion": str(self.version), "creationTimestamp": None}
            api = root.removeprefix("/apis/").removeprefix("/api/")
            watch.send("BOOKMARK", {"kind": kind, "apiVersion": api, "metadata": metadata})

    def expire(self) -> None:
        """Tell each watch that its version is too old."""
        self.forget()
        for watch in self.watches:
            watch.send("ERROR", failure(410, f"too old resource version: 1 ({self.version})", "Expired"))
            watch.end()
        self.watches.clear()

    def cut(self, *, half_a_line: bool = False) -> None:
        """Break each watch."""
        for watch in self.watches:
            if half_a_line:
                watch.raw(b'{"type":"DELETED","object":{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","me')
            watch.cut()
        self.watches.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            target = head.split(" ")[1]
            self.requests.append(target)
            if self.hangs:
                await asyncio.Event().wait()
            parts = urlsplit(target)
            parameters = {name: values[0] for name, values in parse_qs(parts.query).items()}
            plural = PATHS.get(parts.path)
            if self.token is not None and f"\r\nauthorization: bearer {self.token}\r\n".lower() not in head.lower():
                self._fail(writer, 401, "Unauthorized", "Unauthorized")
            elif self.status is not None:
                self._fail(writer, self.status, f"it is told to answer {self.status}", "Told")
            elif plural in self.forbidden:
                self._fail(writer, 403, f'{plural} is forbidden: User "system:serviceaccount:a:b" cannot', "Forbidden")
            elif plural is None or plural in self.unknown:
                self._fail(writer, 404, "the server could not find the requested resource", "NotFound")
            elif "watch" in parameters:
                await self._watch(reader, writer, plural, parameters)
            else:
                self._list(writer, plural, parameters)

    def _fail(self, writer: asyncio.StreamWriter, code: int, message: str, reason: str) -> None:
        headers = f"retry-after: {self.retry_after}\r\n" if self.retry_after else ""
        answer(writer, code, failure(code, message, reason), headers)

    def _list(self, writer: asyncio.StreamWriter, plural: str, parameters: dict[str, str]) -> None:
        self.lists += 1
        _, kind = KINDS[plural]
        version, start = self.version, ""
        if "continue" in parameters:
            token = json.loads(base64.b64decode(parameters["continue"]))
            version, start = token["rv"], token["start"]
            if version < self.forgotten:
                self._fail(writer, 410, "The provided continue parameter is too old", "Expired")
                return
        items = [each for name, each in sorted(self.at(plural, version).items()) if matches(each, parameters)]
        rest = [each for each in items if each["metadata"]["name"] > start]
        limit = self.page or int(parameters["limit"])
        metadata: Json = {"resourceVersion": str(version)}
        if len(rest) > limit:
            token = {"v": "meta.k8s.io/v1", "rv": version, "start": rest[limit - 1]["metadata"]["name"]}
            metadata["continue"] = base64.b64encode(json.dumps(token).encode()).decode()
            metadata["remainingItemCount"] = len(rest) - limit
        # The items of a list do not repeat its kind.
        shown = [{n: value for n, value in each.items() if n not in {"kind", "apiVersion"}} for each in rest[:limit]]
        answer(writer, 200, {"kind": f"{kind}List", "apiVersion": "v1", "metadata": metadata, "items": shown})

    def at(self, plural: str, version: int) -> dict[str, Json]:
        """Return the objects as they were at a version."""
        found = dict(self.objects[plural])
        for change in reversed(self.history):
            if change.version > version and change.plural == plural:
                name = (change.before or change.after or {})["metadata"]["name"]
                found.pop(name, None)
                if change.before is not None:
                    found[name] = change.before
        return found

    async def _watch(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, plural: str, parameters: dict[str, str]
    ) -> None:
        self.watched += 1
        since = int(parameters["resourceVersion"])
        if since < self.forgotten and not self.gone_as_event:
            self._fail(writer, 410, f"too old resource version: {since} ({self.version})", "Expired")
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        watch = Watch(plural, parameters, writer)
        if since < self.forgotten:
            watch.send("ERROR", failure(410, f"too old resource version: {since} ({self.version})", "Expired"))
            watch.end()
            return
        for change in self.history:
            if change.version > since:
                tell(watch, change)
        self.watches.append(watch)
        gone = asyncio.create_task(reader.read())
        ended = asyncio.create_task(watch.ended.wait())
        patience = None if self.quiet else int(parameters["timeoutSeconds"])
        try:
            done, _ = await asyncio.wait({gone, ended}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            gone.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await gone
        if watch in self.watches:
            self.watches.remove(watch)
        if not done:
            watch.end()


def tell(watch: Watch, change: Change) -> None:
    """Tell a watch of a change, as far as the objects that it selects go."""
    if change.plural != watch.plural:
        return
    was = change.before is not None and matches(change.before, watch.parameters)
    now = change.after is not None and matches(change.after, watch.parameters)
    if now and change.after is not None:
        watch.send("MODIFIED" if was else "ADDED", change.after)
    elif was and change.before is not None:
        last = copy.deepcopy(change.before)
        last["metadata"]["resourceVersion"] = str(change.version)
        watch.send("DELETED", last)


def matches(each: Json, parameters: dict[str, str]) -> bool:
    """Whether a selection has an object."""
    labels = each["metadata"].get("labels", {})
    wanted = [part.split("=") for part in parameters.get("labelSelector", "").split(",") if part]
    name = parameters.get("fieldSelector", "").removeprefix("metadata.name=")
    return all(labels.get(key) == value for key, value in wanted) and name in {"", each["metadata"]["name"]}


def failure(code: int, message: str, reason: str) -> Json:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def answer(writer: asyncio.StreamWriter, code: int, body: Any, headers: str = "") -> None:
    text = json.dumps(body, separators=(",", ":")).encode() + b"\n"
    head = f"HTTP/1.1 {code} {TEXTS.get(code, 'OK')}\r\ncontent-type: application/json\r\n{headers}"
    writer.write(f"{head}content-length: {len(text)}\r\n\r\n".encode() + text)


@asynccontextmanager
async def api_server(**options: Any) -> AsyncIterator[ApiServer]:
    """Run an API server until the block ends."""
    server = ApiServer(**options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
