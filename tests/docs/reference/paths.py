"""The page of the paths that clients may ask for, from the allow-list."""

from gateway.exchange import BodyKind, Endpoint
from gateway.wire.endpoints import CANCEL, FORWARDED, LOCAL, MODELS_PREFIX, RETRIEVE
from tests.docs.reference.markdown import WRITTEN, join, table

ABOUT = """
The data listener has these paths. All others get 404 and never reach an engine, such as the engines' control paths
`/metrics`, `/sleep` and `/load_lora_adapter`. The [admin listener](reference-admin-api.md) has paths of its own.
"""
_BODIES = {BodyKind.JSON: "JSON", BodyKind.MULTIPART: "form", BodyKind.NONE: ""}


def page() -> str:
    """Return the page."""
    local = [*sorted(path.decode() for path in LOCAL), f"{MODELS_PREFIX.decode()}{{id}}"]
    return join(
        [
            "# Paths",
            WRITTEN,
            ABOUT,
            "## Forwarded to an engine",
            table(("path", "method", "body", "may stream"), map(_row, FORWARDED.values())),
            "## Forwarded to the engine that stored the response",
            table(("path", "method", "body", "may stream"), map(_row, (RETRIEVE, CANCEL))),
            "## Answered by the gateway",
            table(("path", "method"), ((f"`{path}`", "GET") for path in local)),
        ]
    )


def _row(endpoint: Endpoint) -> tuple[str, str, str, str]:
    streams = "" if endpoint.is_plain else "yes"
    return f"`{endpoint.path}`", endpoint.method.decode(), _BODIES[endpoint.body], streams
