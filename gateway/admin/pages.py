"""The files of the dashboard and of `/docs`: all that a browser loads is served from the package."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "dashboard"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_PAGES = {"/": "index.html", "/docs": "docs.html"}
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def _files() -> dict[str, str]:
    """Return the name of the file below the folder at each path."""
    names = (str(path.relative_to(FOLDER)) for path in sorted(FOLDER.rglob("*")) if path.suffix in _TYPES)
    return _PAGES | {f"/dashboard/{name}": name for name in names if not name.endswith(".html")}


PATHS = frozenset(_files())
"""What a browser may load before a person has typed a token: it says nothing of this gateway."""


def page_routes() -> list[Route]:
    """Return the paths of these files, which are read now: an upgrade does not mix those of two releases."""
    return [Route(path, _sender(FOLDER / name)) for path, name in _files().items()]


def _sender(path: Path) -> Callable[[Request], Awaitable[Response]]:
    content, headers = path.read_bytes(), {**_HEADERS, "content-type": f"{_TYPES[path.suffix]}; charset=utf-8"}

    async def send(_: Request) -> Response:
        return Response(content, headers=headers)

    return send
