"""Steps of a request that no caller answers for, such as a timer's: one that breaks ends its request by an answer."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from gateway.errors import GatewayError

_log = logging.getLogger(__name__)


class Ending(Protocol):
    """A request, or its connection."""

    def give_up(self, error: GatewayError) -> None:
        """End at once, telling the client why."""


def broken(cause: BaseException, request: object) -> GatewayError:
    """Log what broke our code on a request, and return what its client is told."""
    _log.error("a request broke the gateway", exc_info=cause, extra={"request": repr(request)})
    return GatewayError("the gateway failed on this request; its log says why")


def guarded(request: Ending, step: Callable[..., object], *args: Any) -> None:
    """Take a step of a request; without this the request would hang where the step breaks."""
    try:
        step(*args)
    except Exception as cause:  # noqa: BLE001 - whatever broke, the client gets an answer
        try:
            request.give_up(broken(cause, request))
        except Exception:  # noqa: BLE001 - a timer has no caller to raise to
            _log.exception("a request that broke the gateway could not be ended")


def later(seconds: float, request: Ending, step: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
    """Take a step of a request after so many seconds."""
    return asyncio.get_running_loop().call_later(seconds, guarded, request, step, *args)
