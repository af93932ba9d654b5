"""What happened lately, in words: the latest lines of the gateway's log, and what the audit has recorded."""

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from gateway.control.audit import Audit
from gateway.state.store import Record

_KEPT = 50
_LONGEST = 300
_AUDIT = "gateway.control.audit"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_UNTOLD = _STANDARD | {"before", "recent_ejections", "seconds"}
"""What a record has besides what is told of it."""
_PINNED: Mapping[str, "Pin"] = {"outlier_detection": "ejection", "alerts": "alert", "reload": "reload"}
_SUBJECTS: Mapping[str, "Pin"] = {"rollout": "rollout", "deployment": "deployment", "backend": "drain"}

Pin = Literal["", "alert", "deployment", "drain", "ejection", "reload", "rollout"]


class Event(BaseModel):
    """Something that happened: `level` is info, warning or error, `about` the part of the gateway that says so.

    `pin` says as what charts mark it, "" if they do not. `model` and `pool` are what it is about, "" where that is not
    one. `worker` is the process that says so, null where there is only one, or it is the supervisor.
    """

    at: datetime
    level: str
    about: str
    words: str
    pin: Pin = ""
    model: str = ""
    pool: str = ""
    worker: int | None = None


class RecentEvents(logging.Handler):
    """Keeps the latest records of the gateway's loggers, those that charts mark apart from others, until closed."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._records: deque[logging.LogRecord] = deque(maxlen=_KEPT)
        self._pinned: deque[logging.LogRecord] = deque(maxlen=_KEPT)
        logging.getLogger("gateway").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, except for those of the audit, which keeps its own."""
        if record.name != _AUDIT:
            (self._pinned if _pin(record) else self._records).append(record)

    def close(self) -> None:
        """Take no more."""
        logging.getLogger("gateway").removeHandler(self)
        super().close()

    def events(self, audit: Audit | None = None) -> list[Event]:
        """Return the latest events, the newest first."""
        records = [] if audit is None else list(audit)[-_KEPT:]
        return latest([*map(_logged, (*self._records, *self._pinned)), *map(_recorded, records)])


def latest(events: Iterable[Event]) -> list[Event]:
    """Return the latest of these, each once, the newest first; of those before only what charts mark, as many again."""
    known = {(each.at, each.about, each.words): each for each in events}
    found = sorted(known.values(), key=lambda each: each.at)[::-1]
    return found[:_KEPT] + [each for each in found[_KEPT:] if each.pin][:_KEPT]


def _logged(record: logging.LogRecord) -> Event:
    fields: dict[str, Any] = {key: value for key, value in vars(record).items() if key not in _UNTOLD}
    return Event(
        at=_time(record.created),
        level=record.levelname.lower(),
        about=record.name.rpartition(".")[2],
        words=_words(record.getMessage(), fields)[:_LONGEST],
        pin=_pin(record),
        model=str(fields.get("model", "")),
        pool=str(fields.get("pool", "")),
    )


def _recorded(record: Record) -> Event:
    kind, _, name = record.subject.partition(" ")
    subject = name.removeprefix("of ")
    return Event(
        at=_time(record.at),
        level="info",
        about="audit",
        words=f"{record.actor}: {record.action} {record.subject}: {record.reason}"[:_LONGEST],
        pin=_SUBJECTS.get(kind, ""),
        model=subject if kind == "rollout" else "",
        pool=subject.partition("/")[0] if kind == "backend" else "",
    )


def _pin(record: logging.LogRecord) -> Pin:
    pin = _PINNED.get(record.name.rpartition(".")[2], "")
    return "" if pin == "ejection" and record.levelno < logging.WARNING else pin


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(round(at, 3), UTC)


def _words(message: str, fields: dict[str, Any]) -> str:
    """Return what was logged as a sentence: what it is about first, and why last."""
    if "summary" in fields:
        return f"{message}: {fields['summary']}"
    rest = {key: value for key, value in fields.items() if value not in ("", (), [])}
    backend, why = rest.pop("backend", ""), rest.pop("reason", "")
    if backend:
        message = f"{backend} {message.removeprefix('backend ')}"
        rest.pop("pool", None)
    told = ", ".join((message, *(f"{key.replace('_', ' ')} {value}" for key, value in rest.items())))
    return f"{told}: {why}" if why else told
