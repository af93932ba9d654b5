"""What happened lately, in words: the latest lines of the gateway's log, and what the audit has recorded."""

import logging
from collections import deque
from datetime import UTC, datetime

from pydantic import BaseModel

from gateway.control.audit import Audit

_KEPT = 50
_LONGEST = 300
_AUDIT = "gateway.control.audit"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_UNTOLD = frozenset(("before", "recent_ejections", "seconds"))


class Event(BaseModel):
    """Something that happened: `level` is info, warning or error, `about` the part of the gateway that says so."""

    at: datetime
    level: str
    about: str
    words: str


class RecentEvents(logging.Handler):
    """Keeps the latest records of the gateway's loggers, until it is closed; which these are, --log-level says."""

    def __init__(self) -> None:
        super().__init__()
        self._records: deque[logging.LogRecord] = deque(maxlen=_KEPT)
        logging.getLogger("gateway").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, except for those of the audit, which keeps its own."""
        if record.name != _AUDIT:
            self._records.append(record)

    def close(self) -> None:
        """Take no more."""
        logging.getLogger("gateway").removeHandler(self)
        super().close()

    def events(self, audit: Audit) -> list[Event]:
        """Return the latest events, the newest first."""
        found = [_event(each.created, each.levelname.lower(), each.name, _words(each)) for each in self._records]
        found += [
            _event(each.at, "info", _AUDIT, f"{each.actor}: {each.action} {each.subject}: {each.reason}")
            for each in list(audit)[-_KEPT:]
        ]
        return sorted(found, key=lambda event: event.at)[: -_KEPT - 1 : -1]


def _event(at: float, level: str, logger: str, words: str) -> Event:
    when = datetime.fromtimestamp(round(at, 3), UTC)
    return Event(at=when, level=level, about=logger.rpartition(".")[2], words=words[:_LONGEST])


def _words(record: logging.LogRecord) -> str:
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD | _UNTOLD}
    told = (f", {key.replace('_', ' ')} {value}" for key, value in fields.items() if value not in ("", (), []))
    return record.getMessage() + "".join(told)
