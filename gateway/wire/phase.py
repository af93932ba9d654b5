"""Where a client's connection stands between two requests."""

from enum import Enum, auto


class Phase(Enum):
    """What a connection without a request in progress waits for."""

    FRESH = auto()
    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    LINGER = auto()
