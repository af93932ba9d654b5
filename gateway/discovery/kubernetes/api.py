"""Lists and watches at the API server of a Kubernetes cluster, as far as discovery needs them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import httpx
import msgspec

from gateway.discovery.kubernetes import problems
from gateway.discovery.kubernetes.cluster import Cluster
from gateway.discovery.kubernetes.problems import ApiError, BrokenError
from gateway.discovery.kubernetes.resources import Collection, Event, Page, Status, T

PAGE: Final = 100
"""Objects in one page: a pod takes some 10 kB, and parsing a page must not make the event loop late."""
_MOST_PAGES: Final = 1000
_MOST_BYTES: Final = 32 * 1024 * 1024
"""Of one page or one line. An object has at most 1.5 MB in etcd."""
_MOST_OF_A_FAILURE: Final = 64 * 1024
_ANSWER: Final = 30.0
"""Seconds that a page, or the head of a watch, may take."""
_HEADERS: Final = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "tidegate"}


class Api:
    """One connection to an API server: a turn of listing and watching."""

    def __init__(self, cluster: Cluster, client: httpx.AsyncClient, *, answer: float = _ANSWER) -> None:
        self._cluster = cluster
        self._client = client
        self._answer = answer

    async def list(self, collection: Collection[T]) -> tuple[list[T], str]:
        """Return all objects, and the version from which a watch goes on. Raises ApiError.

        The list is a consistent one: without a `resourceVersion`, the API server reads it from etcd.
        """
        decoder = msgspec.json.Decoder(Page[collection.kind])  # type: ignore[name-defined]  # a class of this moment
        found: list[T] = []
        parameters = {"limit": str(PAGE), **collection.selection}
        for _ in range(_MOST_PAGES):
            page: Page[T] = decode(decoder, await self._page(collection, parameters), self._cluster)
            found += page.items or []
            if not page.metadata.more:
                return found, page.metadata.resource_version
            parameters["continue"] = page.metadata.more
        raise ApiError(problems.unreadable(self._cluster, "a list that does not end"))

    async def _page(self, collection: Collection[Any], parameters: dict[str, str]) -> bytes:
        async with self._asked(collection, parameters, "list") as answer:
            return await self._body(answer, _MOST_BYTES)

    @asynccontextmanager
    async def watch(
        self, collection: Collection[Any], version: str, seconds: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Watch what changes after a version, for so many seconds; yields the bytes as they come. Raises ApiError."""
        parameters = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
            **collection.selection,
        }
        async with self._asked(collection, parameters, "watch") as answer:
            yield answer.aiter_raw()

    @asynccontextmanager
    async def _asked(
        self, collection: Collection[Any], parameters: dict[str, str], verb: str
    ) -> AsyncIterator[httpx.Response]:
        with self._failures():
            token = self._cluster.token()
            headers = _HEADERS if token is None else {**_HEADERS, "authorization": f"Bearer {token}"}
            request = self._client.build_request("GET", collection.path, params=parameters, headers=headers)
            answer = await self._sent(request)
            try:
                if answer.status_code != httpx.codes.OK:
                    async with asyncio.timeout(self._answer):
                        body = await self._body(answer, _MOST_OF_A_FAILURE)
                    raise self._failure(collection, verb, answer, body)
                yield answer
            finally:
                await answer.aclose()

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        """Send a request. A connection amid its TLS handshake is closed here: httpcore leaves one that is cancelled."""
        opened: list[Any] = []

        async def note(event: str, about: dict[str, Any]) -> None:
            if event == "connection.connect_tcp.complete":
                opened.append(about["return_value"])
            elif event == "connection.start_tls.complete":
                opened.clear()

        request.extensions["trace"] = note
        try:
            async with asyncio.timeout(self._answer):
                return await self._client.send(request, stream=True)
        except BaseException:
            for each in opened:
                await each.aclose()
            raise

    def _failure(self, collection: Collection[Any], verb: str, answer: httpx.Response, body: bytes) -> ApiError:
        try:
            status = msgspec.json.decode(body, type=Status)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            status = Status(message=body.decode("utf-8", "replace"))
        status.code = answer.status_code
        retry_after = problems.patience(status, answer.headers.get("retry-after"))
        return problems.failure(self._cluster, collection, verb, status, retry_after)

    async def _body(self, answer: httpx.Response, most: int) -> bytes:
        body = bytearray()
        async with asyncio.timeout(self._answer):
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > most:
                    raise ApiError(problems.unreadable(self._cluster, f"more than {most} bytes"))
        return bytes(body)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise BrokenError(problems.unreachable(self._cluster, error)) from error
        except OSError as error:  # TimeoutError among them
            raise BrokenError(problems.unreadable_file(self._cluster, error)) from error


@asynccontextmanager
async def connected(cluster: Cluster, *, answer: float = _ANSWER) -> AsyncIterator[Api]:
    """Yield the API server, with its authority's file as it is now. Raises ApiError.

    Proxies of the environment are not for it, and a redirect could carry the token anywhere.
    """
    try:
        trust = cluster.trust()
    except OSError as error:
        raise ApiError(problems.unreadable_file(cluster, error)) from error
    # Deadlines are set around each call: a watch has none of httpx' kind.
    options: dict[str, Any] = {"verify": trust, "trust_env": False, "follow_redirects": False, "timeout": None}
    async with httpx.AsyncClient(base_url=cluster.url, **options) as client:
        yield Api(cluster, client, answer=answer)


class Lines:
    """Splits what a watch sends into events, one a line. What follows the last newline is half a line."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._half = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that are complete. Raises ApiError, once what comes before has been yielded."""
        self._half += chunk
        complete, newline, rest = self._half.rpartition(b"\n")
        if len(rest) > _MOST_BYTES:
            raise ApiError(problems.unreadable(self._cluster, f"a line of more than {_MOST_BYTES} bytes"))
        if not newline:
            return
        self._half = rest
        for line in complete.split(b"\n"):
            if line.strip():
                yield decode(_EVENT, line, self._cluster)


def decode(decoder: msgspec.json.Decoder[Any], text: bytes | bytearray | msgspec.Raw, cluster: Cluster) -> Any:
    """Return what a text says. Raises ApiError."""
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ApiError(problems.unreadable(cluster, str(error))) from error


_EVENT: Final = msgspec.json.Decoder(Event)
