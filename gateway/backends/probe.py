"""Asking an engine whether it lives and what it serves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gateway.backends.backend import Backend
from gateway.config.addresses import authority
from gateway.config.table import BackendSpec
from gateway.policy.routing import readiness
from gateway.wire.control_client import ControlClient
from gateway.wire.control_connection import ControlError, SilentError

MAX_MODELS: Final = 1024 * 1024
"""Bytes of a list of models that are read."""
MAX_STATE: Final = 4096
"""Bytes of an answer about sleep that are read."""
_LISTS: Final = 8
_OK: Final = 200
_NO_SUCH_PATH: Final = (404, 405)
_LONGEST: Final = 10**9
"""More tokens than any context has."""
_ALWAYS: Final = b"accept: */*\r\naccept-encoding: identity\r\nuser-agent: tidegate\r\n"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found: None for `failure` when all is well, None for `models` when the engine did not tell.

    `models` maps each name to its context length in tokens, None where the engine does not tell that.
    """

    failure: str | None
    silent: bool = False
    models: Mapping[str, int | None] | None = None


SILENT: Final = ProbeResult("no answer to a probe in time", silent=True)


async def probe(
    client: ControlClient,
    backend: Backend,
    *,
    models: bool = True,
    patience: float,
    until: float,
    fields: bytes = b"",
) -> ProbeResult:
    """Ask `/health`, then `/v1/models`, or believe the `models` that are known.

    An engine without a list of models is taken at its health's word. It may be silent for `patience` seconds, and has
    time `until` then; `fields` are added to the head, each line ended.
    """
    try:
        answer = await client.ask(question(backend, b"/health", fields), most=0, patience=patience, until=until)
        failure = _illness(answer.status)
        if failure is not None:
            return ProbeResult(failure)
        if not models:
            return ProbeResult(None, models=backend.models)
        answer = await client.ask(
            question(backend, b"/v1/models", fields), most=MAX_MODELS, patience=patience, until=until
        )
    except SilentError:
        return SILENT
    except ControlError as error:
        return ProbeResult(f"probe failed: {error}")
    if answer.status >= 500:
        return ProbeResult(f"/v1/models answers {answer.status}")
    return ProbeResult(None, models=listed(answer.body))


async def sleeps(client: ControlClient, backend: Backend, *, patience: float, until: float) -> bool:
    """Ask vLLM's `/is_sleeping`; an engine without it is awake. Raises ControlError where it does not tell."""
    answer = await client.ask(question(backend, b"/is_sleeping"), most=MAX_STATE, patience=patience, until=until)
    if answer.status in _NO_SUCH_PATH:
        return False
    try:
        asleep = json.loads(answer.body or b"")["is_sleeping"]
    except (ValueError, KeyError, TypeError, RecursionError):
        asleep = None
    if not isinstance(asleep, bool):
        raise ControlError(f"/is_sleeping answers {answer.status} and does not tell")
    return asleep


async def wake_up(client: ControlClient, backend: Backend, *, patience: float, until: float) -> str:
    """Ask for vLLM's `/wake_up`, and wait until the engine is awake; return why it is not, "" where it is."""
    asked = question(backend, b"/wake_up", b"content-length: 0\r\n", method=b"POST")
    try:
        answer = await client.ask(asked, most=0, patience=patience, until=until)
    except ControlError as error:
        return str(error)
    return "" if answer.status == _OK else f"/wake_up answers {answer.status}"


def _illness(status: int) -> str | None:
    """Return what the status of `/health` says against an engine."""
    if status == 508:
        return "it is this gateway itself: what is sent there comes back"
    return f"/health answers {status}" if status >= 500 else None


def question(backend: Backend, path: bytes, fields: bytes = b"", method: bytes = b"GET") -> bytes:
    """Return the request of a control call; `fields` are added to its head, each line ended."""
    return (
        b"%b %b%b HTTP/1.1\r\nhost: %b\r\n%b%b%b"
        % (
            method,
            backend.base_path,
            path,
            backend.authority,
            _ALWAYS,
            backend.authorization,
            fields,
        )
        + b"\r\n"
    )


def apply(backend: Backend, result: ProbeResult) -> None:
    """Move the backend's state by what a probe found."""
    if result.failure is not None:
        backend.learn(readiness.probe_failed(backend.readiness, result.failure, silent=result.silent))
        return
    backend.learn(readiness.probe_passed(backend.readiness))
    backend.availability.list_models(result.models)


def base_url(spec: BackendSpec) -> str:
    """Return the URL that control calls begin with."""
    scheme = "https" if spec.tls else "http"
    return f"{scheme}://{authority(spec.host, spec.port)}{spec.base_path}"


def headers(spec: BackendSpec) -> dict[str, str]:
    """Return the fields that control calls carry."""
    return {"authorization": f"Bearer {spec.api_key}"} if spec.api_key else {}


@lru_cache(maxsize=_LISTS)
def listed(body: bytes | None) -> Mapping[str, int | None] | None:
    """Return the models that an engine's list names, with their `max_model_len`; None when it is no list.

    Engines of a pool mostly say the same: of a thousand models the latest lists are not read again.
    """
    if body is None:
        return None
    try:
        return {str(card["id"]): _context(card) for card in json.loads(body)["data"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _context(card: Mapping[str, object]) -> int | None:
    length = card.get("max_model_len")
    return length if type(length) is int and 0 < length <= _LONGEST else None
