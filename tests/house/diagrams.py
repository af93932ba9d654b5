"""The state diagrams of the documentation, drawn from the tables in the code.

`python -m tests.house.diagrams` writes them into the pages; test_diagrams.py fails while a page and its table differ.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from gateway.policy.canary import rollout
from gateway.policy.routing import ejection
from gateway.proxy import lifecycle
from gateway.wire import phase

ROOT = Path(__file__).parents[2]

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)
Arrow = tuple[StrEnum, StrEnum, StrEnum]


def arrows(transitions: Mapping[tuple[State, Event], State]) -> tuple[Arrow, ...]:
    """Return a table of transitions as arrows."""
    return tuple((state, event, following) for (state, event), following in transitions.items())


@dataclass(frozen=True, slots=True)
class Diagram:
    """The page that shows a table, the state that it begins in, and its arrows: a state, an event, the next state."""

    name: str
    page: str
    start: StrEnum
    arrows: tuple[Arrow, ...]

    @property
    def events(self) -> set[str]:
        """Every event that the table knows."""
        return {str(event) for _, event, _ in self.arrows}

    def __str__(self) -> str:
        """Return the diagram as Mermaid draws it: one arrow for each pair of states, with all of its events."""
        events: dict[tuple[StrEnum, StrEnum], list[str]] = {}
        for state, event, following in self.arrows:
            events.setdefault((state, following), []).append(event)
        lines = [f"[*] --> {self.start}"]
        lines += [f"{state} --> {following}: {', '.join(named)}" for (state, following), named in events.items()]
        return "\n".join(["```mermaid", "stateDiagram-v2", *(f"    {line}" for line in lines), "```"])

    @property
    def marks(self) -> tuple[str, str]:
        """The comments that the diagram stands between."""
        return f"<!-- {self.name}: written by python -m tests.house.diagrams -->", f"<!-- end of {self.name} -->"

    def shown(self, text: str) -> str:
        """Return the diagram as a page shows it now; ValueError from a page without it."""
        return self._found(text)[1]

    def written(self, text: str) -> str:
        """Return a page with the diagram as the table has it."""
        begin, end = self._found(text).span(1)
        return text[:begin] + str(self) + text[end:]

    def _found(self, text: str) -> re.Match[str]:
        begin, end = self.marks
        found = re.search(rf"{re.escape(begin)}\n\n(.*?)\n\n{re.escape(end)}", text, re.DOTALL)
        if found is None:
            raise ValueError(f"{self.page} has no diagram between {begin} and {end}")
        return found


DIAGRAMS = (
    Diagram("ejection", "docs/slo.md", ejection.State.IN_SERVICE, arrows(ejection.TRANSITIONS)),
    Diagram("rollout", "docs/canary.md", rollout.Phase.IDLE, arrows(rollout.TRANSITIONS)),
    Diagram("request", "docs/request-lifecycle.md", lifecycle.State.READING, arrows(lifecycle.TRANSITIONS)),
    Diagram("connection", "docs/request-lifecycle.md", phase.Phase.FRESH, arrows(phase.TRANSITIONS)),
)


def main() -> None:
    """Write every diagram into its page."""
    for diagram in DIAGRAMS:
        page = ROOT / diagram.page
        page.write_text(diagram.written(page.read_text()))


if __name__ == "__main__":
    main()
