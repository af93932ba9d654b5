"""Posts to an OTLP collector as OpenTelemetry's exporters do: retries, Retry-After, compression, TLS, proxies."""

import gzip
import os
import ssl
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cache
from importlib.metadata import version
from math import isfinite
from random import uniform
from urllib.request import getproxies

import httpx

from gateway.clock import Clock, monotonic, wall
from gateway.telemetry.otlp_settings import OtlpSettings

TRIES = 6
_LATER = frozenset((429, 502, 503, 504))
_HOPELESS = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)
_TOLD = (httpx.ConnectError, httpx.ProxyError)


class _Failed(Exception):
    """A request was not taken. `pause` is when to try again (s): None for never, negative where nothing says so."""

    def __init__(self, why: str, pause: float | None) -> None:
        super().__init__(why)
        self.why = why
        self.pause = pause


class OtlpClient:
    """One connection to a collector, kept while it works. The URL may hold a secret: it is in no error."""

    def __init__(
        self,
        url: str,
        settings: OtlpSettings,
        pausing: Callable[[float], bool],
        clock: Clock = monotonic,
        epoch: Clock = wall,
    ) -> None:
        """Take what waits for so many seconds between two tries, and says whether there is to be no other."""
        self._url = url
        self._settings = settings
        self._pausing = pausing
        self._clock = clock
        self._epoch = epoch
        self._client: httpx.Client | None = None
        self._headers = {
            "content-type": "application/x-protobuf",
            "user-agent": f"tidegate/{version('tidegate')}",
            **({} if settings.compression == "none" else {"content-encoding": settings.compression}),
            **settings.headers,
        }

    def send(self, request: bytes, within: float) -> str:
        """Return "" once the collector has taken a request, else why it did not within so many seconds."""
        body, deadline = self._compressed(request), self._clock() + within
        for again in range(TRIES):
            try:
                self._post(body, max(deadline - self._clock(), 0.001))
            except _Failed as failed:
                why, pause = failed.why, failed.pause
            else:
                return ""
            if pause is None:
                break
            if pause < 0.0:
                pause = 2**again * uniform(0.8, 1.2)
            if again + 1 == TRIES or pause > deadline - self._clock() or self._pausing(pause):
                break
        return why

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _post(self, body: bytes, within: float) -> None:
        """Send once; of the answer only the head is read: what else it says, or packs, has no bound."""
        try:
            client = self._connected()
            with client.stream("POST", self._url, content=body, headers=self._headers, timeout=within) as answer:
                status, later = answer.status_code, answer.headers.get("retry-after", "")
                if answer.headers.get("content-length") == "0":
                    deque(answer.iter_raw(), 0)  # there is nothing, and the connection can be used again
            client.cookies.clear()
        except httpx.TransportError as error:
            # Made anew, it also reads files again: certificates may have been renewed.
            self.close()
            raise _Failed(_reason(error), None if isinstance(error, _HOPELESS) else -1.0) from None
        except (OSError, ValueError, httpx.InvalidURL) as error:
            self.close()
            raise _Failed(_reason(error), None) from None
        if not 200 <= status < 300:
            raise _Failed(f"status {status}", self._pause(later) if status in _LATER else None)

    def _connected(self) -> httpx.Client:
        if self._client is None:
            self._client = httpx.Client(verify=self._trust())
        return self._client

    def _trust(self) -> ssl.SSLContext:
        """Return what a collector's certificate must be signed by, with our own; raises OSError for missing files."""
        settings = self._settings
        roots = settings.certificate
        if not roots and not settings.client_certificate:
            return _public_roots() if self._speaks_tls() else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with _naming("the file or folder of authorities", roots):
            if not roots:
                context = httpx.create_ssl_context()
            elif os.path.isdir(roots):
                context = ssl.create_default_context(capath=roots)
            else:
                context = ssl.create_default_context(cafile=roots)
        if settings.client_certificate:
            with _naming("the client certificate or key", settings.client_certificate):
                context.load_cert_chain(settings.client_certificate, settings.client_key or None)
        return context

    def _speaks_tls(self) -> bool:
        """Return whether the collector, or a proxy on the way, may do so: loading roots takes 40 ms of CPU."""
        return any(url.lower().startswith("https:") for url in (self._url, *getproxies().values()))

    def _compressed(self, request: bytes) -> bytes:
        match self._settings.compression:
            case "gzip":
                return gzip.compress(request)
            case "deflate":
                return zlib.compress(request)
            case _:
                return request

    def _pause(self, later: str) -> float:
        """Return the seconds that a Retry-After says, negative where it says none."""
        try:
            seconds = float(later)
        except ValueError:
            try:
                seconds = max(0.0, parsedate_to_datetime(later).timestamp() - self._epoch())
            except (TypeError, ValueError, OverflowError):
                return -1.0
        return max(0.0, seconds) if isfinite(seconds) else -1.0


@cache
def _public_roots() -> ssl.SSLContext:
    return httpx.create_ssl_context()


@contextmanager
def _naming(what: str, path: str) -> Iterator[None]:
    """Have an error say which file it is about, which those of `ssl` do not."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{what} {path} cannot be used: {error.strerror or error}") from None


def _reason(error: Exception) -> str:
    """Return an error in words that hold neither the URL nor a header."""
    name = type(error).__name__
    if isinstance(error, OSError):
        return str(error)
    return f"{name}: {error}" if isinstance(error, _TOLD) else name
