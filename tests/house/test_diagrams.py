"""The diagrams of the documentation show what the tables in the code say."""

import inspect
import re
from enum import StrEnum

import pytest

from gateway.cli.serve import serve
from gateway.control import drain
from tests.house.diagrams import DIAGRAMS, ROOT, Diagram

EVERY = pytest.mark.parametrize("diagram", DIAGRAMS, ids=lambda diagram: diagram.name)


@EVERY
def test_a_page_shows_its_table(diagram: Diagram) -> None:
    shown = diagram.shown((ROOT / diagram.page).read_text())
    assert shown == str(diagram), "run: python -m tests.house.diagrams"


@EVERY
def test_a_page_explains_every_event_of_its_table(diagram: Diagram) -> None:
    _, _, after = (ROOT / diagram.page).read_text().partition(diagram.marks[1])
    table = re.search(r"\| event \|.*?\n\n", after, re.DOTALL)
    assert table is not None
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", table[0])) == diagram.events


class TestStopping:
    """A stop is a coroutine and no table (gateway/control/drain.py): its diagram is held by its words."""

    section = (ROOT / "docs/operations.md").read_text().partition("## Stopping\n")[2].partition("\n## ")[0]
    diagram, _, prose = section.partition("stateDiagram-v2")[2].partition("```")

    def test_the_diagram_and_the_table_have_the_same_states(self) -> None:
        drawn = set(re.findall(r"(?m)^ *(\w+) -->|--> (\w+)", self.diagram))
        assert {state for pair in drawn for state in pair if state} == set(re.findall(r"(?m)^\| `(\w+)`", self.prose))

    @pytest.mark.parametrize("name", ["delay", "timeout"])
    def test_the_times_are_options_with_these_defaults(self, name: str) -> None:
        option = inspect.signature(serve).parameters[f"drain_{name}"]
        assert f"drain-{name} is over" in self.diagram
        assert f"`--drain-{name}` ({option.default:g} s)" in self.prose
        assert getattr(drain.DrainTimes(), name) == option.default

    def test_the_last_wait_is_as_long_as_the_code_waits(self) -> None:
        assert f"ending --> stopped: no connection left, {drain._CLOSE_SECONDS:g} s" in self.diagram  # noqa: SLF001 - the number in the diagram


class _Light(StrEnum):
    RED = "red"
    GREEN = "green"


class _Event(StrEnum):
    TIME = "time"
    BUTTON = "button"


class TestADiagram:
    traffic = Diagram(
        "traffic",
        "docs/none.md",
        _Light.RED,
        (
            (_Light.RED, _Event.TIME, _Light.GREEN),
            (_Light.GREEN, _Event.TIME, _Light.RED),
            (_Light.RED, _Event.BUTTON, _Light.GREEN),
        ),
    )

    def test_has_one_arrow_for_each_pair_of_states(self) -> None:
        assert str(self.traffic).splitlines() == [
            "```mermaid",
            "stateDiagram-v2",
            "    [*] --> red",
            "    red --> green: time, button",
            "    green --> red: time",
            "```",
        ]

    def test_replaces_what_stands_between_its_marks_and_nothing_else(self) -> None:
        begin, end = self.traffic.marks
        page = f"the old one\n\n{begin}\n\nthe old one\n\n{end}\n\nafter\n"
        assert self.traffic.written(page) == f"the old one\n\n{begin}\n\n{self.traffic}\n\n{end}\n\nafter\n"

    def test_needs_its_marks_in_the_page(self) -> None:
        with pytest.raises(ValueError, match="has no diagram between"):
            self.traffic.written("no marks")
