"""How spans and metrics are sent, and as whose: by OpenTelemetry's environment variables, as its Python SDK does."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from math import isfinite
from urllib.parse import unquote
from uuid import uuid4

from gateway.telemetry.otlp import OF_RESOURCE, Attribute, delimited

_log = logging.getLogger(__name__)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
COMPRESSIONS = ("none", "gzip", "deflate")
_PAIRS = "name=value, with commas between several, and what is special in a value URL-encoded"


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """How spans or metrics are sent. Times are seconds; `waiting` and `batch` are spans; names of files may be "".

    `timeout` is for one batch with all its tries, `delay` how long a batch that is not full waits, or how much time is
    between two exports of metrics. Headers may hold secrets.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 10.0
    compression: str = "none"
    certificate: str = ""
    client_certificate: str = ""
    client_key: str = ""
    delay: float = 5.0
    waiting: int = 2048
    batch: int = 512


def otlp_settings(variables: Mapping[str, str]) -> OtlpSettings:
    """Read settings of traces; what cannot be read is logged by its variable's name, and as if it were not set."""
    waiting = int(_number(variables, "OTEL_BSP_MAX_QUEUE_SIZE", 2048, least=1))
    return replace(
        _sending(variables, "TRACES"),
        delay=_number(variables, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
        waiting=waiting,
        batch=min(waiting, int(_number(variables, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, least=1))),
    )


def metric_settings(variables: Mapping[str, str]) -> OtlpSettings | None:
    """Read settings of metrics; None where none are wanted."""
    if variables.get("OTEL_METRICS_EXPORTER", "").strip().lower() == "none":
        return None
    found = _sending(variables, "METRICS")
    most = _number(variables, "OTEL_METRIC_EXPORT_TIMEOUT", 30_000) / 1000
    every = _number(variables, "OTEL_METRIC_EXPORT_INTERVAL", 60_000) / 1000
    return replace(found, timeout=min(found.timeout, most), delay=every)


def _sending(variables: Mapping[str, str], signal: str) -> OtlpSettings:
    """Read how one signal is sent."""
    return OtlpSettings(
        _headers(variables, signal),
        _number(variables, _set(variables, signal, "TIMEOUT"), 10.0),
        _compression(variables, signal),
        _exporter(variables, signal, "CERTIFICATE") or _first(variables, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        _exporter(variables, signal, "CLIENT_CERTIFICATE"),
        _exporter(variables, signal, "CLIENT_KEY"),
    )


def resource(variables: Mapping[str, str]) -> bytes:
    """Return the resource of this process, as a field of ResourceSpans and of ResourceMetrics."""
    written = (Attribute(name, OF_RESOURCE).text(value) for name, value in resource_attributes(variables).items())
    return delimited(b"\x0a", b"".join(written))


def resource_attributes(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes of this process: OTEL_RESOURCE_ATTRIBUTES, with our own name and version."""
    release = version("tidegate")
    found = {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "tidegate",
        "telemetry.sdk.version": release,
        "service.instance.id": str(uuid4()),
    }
    for item in filter(None, variables.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")):
        name, equals, value = item.partition("=")
        if equals:
            found[name.strip()] = unquote(value.strip())
        else:
            _warn("OTEL_RESOURCE_ATTRIBUTES", _PAIRS)
    return found | {"service.name": "tidegate", "service.version": release}


def _headers(variables: Mapping[str, str], signal: str) -> dict[str, str]:
    found: dict[str, str] = {}
    variable = _set(variables, signal, "HEADERS")
    for item in filter(None, (each.strip() for each in variables.get(variable, "").split(","))):
        name, equals, value = (each.strip() for each in item.partition("="))
        if " " not in value:  # else it was not URL-encoded, as by other SDKs
            name, value = unquote(name).strip(), unquote(value).strip()
        if equals and _TOKEN.fullmatch(name) and _VALUE.fullmatch(value):
            found[name.lower()] = value
        else:
            _warn(variable, _PAIRS)
    return found


def _compression(variables: Mapping[str, str], signal: str) -> str:
    variable = _set(variables, signal, "COMPRESSION")
    asked = variables.get(variable, "").strip().lower() or "none"
    if asked in COMPRESSIONS:
        return asked
    _warn(variable, ", ".join(COMPRESSIONS))
    return "none"


def _number(variables: Mapping[str, str], variable: str, otherwise: float, *, least: float = 0.0) -> float:
    """Return a positive number of a variable, at least so much."""
    text = variables.get(variable, "").strip()
    if not text:
        return otherwise
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if isfinite(number) and number > 0.0 and number >= least:
        return number
    _warn(variable, f"a number of {least:g} or more" if least else "a number above 0", used=f"{otherwise:g}")
    return otherwise


def _exporter(variables: Mapping[str, str], signal: str, name: str) -> str:
    return variables.get(_set(variables, signal, name), "")


def _set(variables: Mapping[str, str], signal: str, name: str) -> str:
    """Return which variable of the exporter counts: the one for the signal, where it is set, else the one for all."""
    own = f"OTEL_EXPORTER_OTLP_{signal}_{name}"
    return own if variables.get(own) else f"OTEL_EXPORTER_OTLP_{name}"


def _first(variables: Mapping[str, str], *names: str) -> str:
    return next((variables[name] for name in names if variables.get(name)), "")


def _warn(variable: str, expected: str, *, used: str = "") -> None:
    """Log that a variable cannot be read; its value is not shown, since it may be a secret."""
    words = "a variable of OpenTelemetry cannot be read, or only in part"
    _log.warning(words, extra={"variable": variable, "expected": expected} | ({"used": used} if used else {}))
