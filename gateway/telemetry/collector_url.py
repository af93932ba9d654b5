"""The URL of a trace collector, apart from the library that sends to it: that takes a tenth of a second and 20 MB."""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from gateway.telemetry.traces import Traces


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


def traces_to(endpoint: str | None) -> "Traces | None":
    """Return what sends traces, None where no endpoint is set; only here the library is loaded."""
    if endpoint is None:
        return None
    from gateway.telemetry.traces import Traces  # noqa: PLC0415

    return Traces(endpoint)
