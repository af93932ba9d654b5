"""The URL of a trace collector, checked before anything starts."""

from typing import Final

from gateway.config.addresses import check_url
from gateway.config.problems import InvalidValueError

_PATH: Final = "/v1/traces"


def spans_url(endpoint: str) -> str:
    """Return where spans are sent: below the collector's base URL, which may have been written with that path."""
    return f"{endpoint.rstrip('/').removesuffix(_PATH)}{_PATH}"


def check_endpoint(endpoint: str) -> None:
    """Raise ValueError, without the URL in it since that may hold a secret, for what is no collector's base URL."""
    try:
        check_url(endpoint, "write it with the host and the port of OTLP/HTTP, as http://localhost:4318")
    except InvalidValueError as error:
        names = "--otlp-endpoint (or TIDEGATE_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT)"
        raise ValueError(f"{names}: the base URL of a trace collector {error.message}: {error.hint}") from None
