"""Gateways that share a state file by mistake: their routes differ, and one keeps what it has only while it leads."""

import json
import logging
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from gateway.clock import Clock
from gateway.control.persistence import LEADER, LEASE_SECONDS
from gateway.proxy.current import CurrentTable
from gateway.state.store import Document

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """What a gateway tells of itself; `models` has the definition of each one's rollout, "" without one."""

    process: str
    routes: list[str]
    models: dict[str, str]


class Sharing:
    """What the gateway that leads tells the others that share its state file, and what one of these makes of that.

    `problem` says in words that another one leads with other routes, "" as long as none does.
    """

    def __init__(self, where: str, current: CurrentTable, leads: Callable[[], bool], clock: Clock) -> None:
        """Take where state is kept, and a clock of seconds since the epoch."""
        self.problem = ""
        self._where = where
        self._current = current
        self._leads = leads
        self._clock = clock
        self._told: Told | None = None
        self._since = 0.0

    def documents(self) -> list[Document]:
        """Return what the others are to be told, if this one leads and it has changed since the last call."""
        if not self._leads():
            self._told = None
            return []
        self.problem, self._since = "", 0.0
        told = self._own()
        if told == self._told:
            return []
        self._told = told
        return [Document(LEADER, "", json.dumps(asdict(told)))]

    def led(self, documents: Iterable[Document]) -> None:
        """Take what the gateway that leads tells. One that was killed seems to lead until its lease is over."""
        own, now = self._own(), self._clock()
        other = next((told for each in documents if (told := _read(each)) is not None), None)
        if other is None or other.models == own.models:
            self.problem, self._since = "", 0.0
            return
        self._since = self._since or now
        if not self.problem and now - self._since > LEASE_SECONDS:
            self.problem = _words(own, other, self._where)
            words = "the state is shared with a gateway that has other routes: give this one its own with --state"
            _log.warning(words, extra={"reason": self.problem})

    def _own(self) -> Told:
        table = self._current.routes
        rollouts = {
            spec.name: spec.canary.fingerprint if spec.canary is not None else "" for spec in table.models.values()
        }
        return Told(f"{os.getpid()} on {socket.gethostname()}", list(table.sources), rollouts)


def _read(document: Document) -> Told | None:
    """Return what a gateway told, None where that cannot be read."""
    try:
        told = json.loads(document.body)
        return Told(str(told["process"]), [str(each) for each in told["routes"]], dict(told["models"]))
    except (KeyError, TypeError, ValueError):
        return None


def _words(own: Told, other: Told, where: str) -> str:
    rollouts = ", ".join(name for name, definition in own.models.items() if definition)
    return (
        f"another gateway (process {other.process}, with {', '.join(other.routes)}) keeps its state in {where} too, "
        f"and leads there: {f'rollouts do not begin here ({rollouts}), and ' if rollouts else ''}"
        "drained backends, deployments and alerts of this one are not saved"
    )
