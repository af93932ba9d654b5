"""The URL of a trace collector, checked before anything starts."""

from typing import Final
from urllib.parse import urlsplit

_PATH: Final = "/v1/traces"


def spans_url(endpoint: str) -> str:
    """Return where spans are sent: below the collector's base URL, which may have been written with that path."""
    return f"{endpoint.rstrip('/').removesuffix(_PATH)}{_PATH}"


def check_endpoint(endpoint: str) -> None:
    """Raise ValueError, without the URL in it since that may hold a secret, for what is no collector's base URL."""
    try:
        url = urlsplit(endpoint)
        well = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        well = False
    if not well:
        raise ValueError(
            "--otlp-endpoint (or TIDEGATE_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT) is not the base URL of a trace "
            "collector: write http:// or https://, its host and the port of OTLP/HTTP, as http://localhost:4318"
        )
