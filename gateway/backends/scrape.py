"""Asking an engine for its own metrics."""

from typing import Final

from gateway.backends import probe
from gateway.backends.backend import Backend
from gateway.backends.exposed import EngineMetrics, extract
from gateway.policy.capacity.signals import ENGINES, SignalMap, kind_of, read_signals
from gateway.policy.capacity.want import EngineLoad
from gateway.wire.control_client import ControlClient
from gateway.wire.control_connection import ControlError

MAX_BODY: Final = 4 * 1024 * 1024
_NO_SIGNALS: Final = SignalMap()


async def scrape(
    client: ControlClient, backend: Backend, *, patience: float, until: float, signals: SignalMap | None = None
) -> tuple[EngineMetrics | None, EngineLoad | None]:
    """Return what an engine says of itself; None when it has no metrics, or they cannot be read or are beyond 4 MiB.

    Its load is read where its pool has `signals`: those of its kind, but for what they name. The engine may be silent
    for `patience` seconds, and has time `until` then.
    """
    try:
        asked = probe.question(backend, b"/metrics")
        answer = await client.ask(asked, most=MAX_BODY, patience=patience, until=until)
    except ControlError:
        return None, None
    body = answer.body
    if body is None:
        return None, None
    found = extract(body)
    is_vllm = found != EngineMetrics()
    load = None if signals is None else _load(body, signals, found, is_vllm=is_vllm)
    return found if is_vllm else None, load


def _load(body: bytes, signals: SignalMap, found: EngineMetrics, *, is_vllm: bool) -> EngineLoad | None:
    """Return the load of an engine; None where it says nothing of it. Of vLLM what was found is enough."""
    if is_vllm and not signals.metrics:
        return EngineLoad(found.waiting, None, found.kv_usage, found.running)
    usual = ENGINES.get(kind_of(body), _NO_SIGNALS)
    load = read_signals(
        body,
        SignalMap(
            backlog=signals.backlog or usual.backlog,
            running=signals.running or usual.running,
            slots=usual.slots,
            slots_used=signals.slots_used or usual.slots_used,
            kv_used=signals.kv_used or usual.kv_used,
        ),
    )
    return load if load != EngineLoad() else None
