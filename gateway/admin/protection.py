"""Who may talk to the admin listener: its token, and the Host and Origin of browsers that were led there."""

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from gateway.admin.pages import PATHS
from gateway.config.problems import InvalidValueError
from gateway.config.sources import read_secret
from gateway.proxy.similar import unknown_model

_OPEN = PATHS | {"/health"}
_WRITES = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_LISTED = 20
"""Names of models that an error tells."""
_LOOPBACK_NAMES = frozenset(("localhost", "localhost.localdomain"))
Next = Callable[[Request], Awaitable[Response]]


class TokenRequired(ValueError):
    """The admin listener would be reachable from elsewhere without a token."""


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_token(host: str, *, has_token: bool) -> None:
    """Raise TokenRequired when `host` is beyond loopback and there is no token."""
    if not has_token and not is_loopback(host):
        raise TokenRequired(
            f"the admin listener on {host} could be reached from elsewhere: set TIDEGATE_ADMIN_TOKEN or"
            " --admin-token-file, or bind it to 127.0.0.1"
        )


class AdminToken:
    """The admin listener's token, of which only the digest is kept; with a file, what that holds."""

    def __init__(self, token: str | None, file: Path | None = None) -> None:
        """Take a token, or a file whose token `load` reads before the first request."""
        self.file = file
        self._digest = hashlib.sha256(token.encode()).digest() if token else None

    @property
    def is_wanted(self) -> bool:
        """Whether requests need it."""
        return self._digest is not None or self.file is not None

    def load(self) -> None:
        """Read the file again; raises ValueError, without what it holds, and keeps the token where it holds none."""
        if self.file is not None:
            try:
                token = read_secret(self.file)
            except InvalidValueError as error:
                raise ValueError(f"the admin token file {self.file}: {error}") from None
            self._digest = hashlib.sha256(token.encode()).digest()

    def is_right(self, given: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), self._digest or b"")


class Protection:
    """A middleware."""

    def __init__(self, host: str, token: AdminToken) -> None:
        self._host = host.lower()
        self._token = token

    async def __call__(self, request: Request, call_next: Next) -> Response:
        """Refuse, or pass on."""
        refusal = self._refusal(request)
        return await call_next(request) if refusal is None else refusal

    def _refusal(self, request: Request) -> Response | None:
        authority = request.headers.get("host", "")
        host = (urlsplit(f"//{authority}").hostname or "").lower()
        # A name that resolves to loopback is how a web page reaches what is bound there (DNS rebinding).
        if not self._token.is_wanted and not (is_loopback(host) or host == self._host):
            return error(403, "forbidden", f"the host `{authority[:128]}` is not this listener's")
        if request.method in _WRITES:
            origin = request.headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != authority:
                return error(403, "forbidden", "requests from other origins may not change anything")
        if not self._token.is_wanted or request.url.path in _OPEN:
            return None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = self._token.is_right(given)
        if scheme.lower() == "bearer" and right:
            return None
        return error(401, "invalid_admin_token", "the admin listener requires `authorization: Bearer <token>`")


def no_such_model(model: str, names: Iterable[str]) -> JSONResponse:
    """Return the error for a model that is none of these names, with the one that was meant, and some that are."""
    unknown, known = unknown_model(model, names), sorted(names)
    more = ", ..." if len(known) > _LISTED else ""
    words = f"{unknown.message} (there are {', '.join(known[:_LISTED])}{more})"
    return error(unknown.status, unknown.code, words)


def error(status: int, code: str, message: str, **more: object) -> JSONResponse:
    """Return an error in the shape of all the gateway's errors."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"message": message, "type": kind, "param": None, "code": code, **more}
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": body}, status, headers)
