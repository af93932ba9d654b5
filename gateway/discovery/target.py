"""What sources of backends have in common: the targets that they find, and how they tell of them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias


class TargetState(StrEnum):
    """Whether a target is to get requests."""

    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Target:
    """One engine, as an origin tells of it.

    `key` is its identity at this origin: a target with another key is another engine, also at the same address.
    Where the origin knows nothing better, it is the address. `host` is an IP address or a name, without brackets.
    """

    key: str
    host: str
    port: int
    tls: bool = False
    state: TargetState = TargetState.READY
    labels: tuple[tuple[str, str], ...] = ()


Publish: TypeAlias = Callable[[Collection[Target]], None]
"""Takes the complete set of targets, each time that the origin has confirmed it, changed or not.

An origin that is silent confirms nothing: then it is not called, and the last set stays. An empty set says that the
origin itself has told that there are none.
"""


class Source(Protocol):
    """Asks one origin for its targets, again and again."""

    @property
    def problem(self) -> str:
        """What is wrong with the origin at the moment, in one line for people; "" while all is well."""

    @property
    def errors(self) -> int:
        """How often the origin could not be asked, or told what cannot be used."""

    async def run(self, publish: Publish) -> None:
        """Ask until cancelled."""
