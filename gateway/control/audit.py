"""Who changed what, when, and why: the latest records in memory, all of them in the store and in the log."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator

from gateway.clock import Clock
from gateway.state.store import Record

_log = logging.getLogger(__name__)
_REMEMBERED = 1000
_LONGEST = 500


class Audit:
    """Records, the newest last. Times are seconds since the epoch."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: deque[Record] = deque(maxlen=_REMEMBERED)
        self._unsaved: list[Record] = []

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def record(self, actor: str, action: str, subject: str, reason: str) -> None:
        """Keep that somebody did something to a subject."""
        record = Record(self._clock(), _printable(actor), action, subject, _printable(reason))
        self._records.append(record)
        self._unsaved.append(record)
        fields = {"actor": record.actor, "action": action, "subject": subject, "reason": record.reason}
        _log.info("audit", extra=fields)

    def unsaved(self) -> list[Record]:
        """Return the records since the last call."""
        taken, self._unsaved = self._unsaved, []
        return taken

    def restore(self, records: Iterable[Record]) -> None:
        """Take back what was kept over a restart."""
        self._records.extend(records)


def _printable(text: str) -> str:
    """Return what somebody wrote, bounded, and fit for anybody's terminal."""
    return "".join(each if each.isprintable() else " " for each in text[:_LONGEST])
