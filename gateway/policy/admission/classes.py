"""Service classes: how long a request may wait, who goes first, and whom to turn away."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class ServiceClass:
    """One class. The lowest `priority` is served first; `max_queue_wait` is in seconds.

    `min_share` of the tokens served is guaranteed while anybody of the class waits, 0 to 1. A `sheddable` class is the
    first to be turned away.
    """

    name: str
    priority: int
    max_queue_wait: float = 10.0
    sheddable: bool = False
    min_share: float = 0.0


STANDARD: Final = "standard"
"""The class of requests that ask for none."""
CLASSES: Final[Mapping[str, ServiceClass]] = MappingProxyType(
    {
        each.name: each
        for each in (
            ServiceClass("interactive", 0, 2.0),
            ServiceClass(STANDARD, 10, 10.0),
            ServiceClass("batch", 20, 600.0, sheddable=True, min_share=0.05),
        )
    }
)
"""The classes that there are unless routes say otherwise."""
