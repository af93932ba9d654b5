"""The URL of an OTLP collector, checked before anything starts."""

from typing import Final

from gateway.config.addresses import check_url
from gateway.config.problems import InvalidValueError

_TRACES: Final = "/v1/traces"
_METRICS: Final = "/v1/metrics"


def spans_url(endpoint: str) -> str:
    """Return where spans are sent: below the collector's base URL, which may have been written with that path."""
    return f"{_base(endpoint)}{_TRACES}"


def metrics_url(endpoint: str) -> str:
    """Return where metrics are sent, likewise."""
    return f"{_base(endpoint)}{_METRICS}"


def _base(endpoint: str) -> str:
    return endpoint.rstrip("/").removesuffix(_TRACES)


def check_endpoint(endpoint: str) -> None:
    """Raise ValueError, without the URL in it since that may hold a secret, for what is no collector's base URL."""
    try:
        check_url(endpoint, "write it with the host and the port of OTLP/HTTP, as http://localhost:4318")
    except InvalidValueError as error:
        names = "--otlp-endpoint (or TIDEGATE_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT)"
        raise ValueError(f"{names}: the base URL of an OTLP collector {error.message}: {error.hint}") from None
