"""The process's own log: one JSON object a line on standard error."""

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """Formats a record with its extra fields; JSON escapes control characters, so a line is always one line.

    `worker` is the id of this process where it is one worker of several, whose lines come mixed.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._own: dict[str, object] = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= self._own | {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure(level: str, stream: "SupportsWrite[str]", worker: int | None = None) -> None:
    """Send every logger to `stream`; of the libraries only what is wrong. Raises ValueError for no such level.

    What the gateway logs from info on is made whatever the level: the dashboard shows it.
    """
    least = logging.getLevelNamesMapping().get(level.upper())
    if least is None:
        raise ValueError(f"--log-level is debug, info, warning or error, not `{level}`")
    logging.getLogger("gateway").setLevel(min(least, logging.INFO))
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(worker))
    handler.addFilter(lambda record: record.levelno >= least or not record.name.startswith("gateway"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
