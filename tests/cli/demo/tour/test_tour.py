"""The tour as people start it: real engines, a real gateway."""

import re
import signal

import pytest

from tests.cli.demo.conftest import StartDemo
from tests.waiting import until

STORY = (
    "Steady load",
    "An engine browns out",
    "Overload",
    "The engine comes back",
    "A bad canary",
    "A good canary",
)
OVER = re.compile(r"^(All 6 steps happened as told\.|did not happen as told: .+)$", re.MULTILINE)


def test_the_whole_story_happens(start_demo: StartDemo) -> None:
    demo = start_demo("--plain")
    until(lambda: OVER.search(demo.out) or demo.process.poll() is not None, "the end of the tour")

    demo.process.send_signal(signal.SIGINT)

    assert demo.ended() == 0, demo.out + demo.err
    assert demo.err == ""
    told = re.findall(r"^\d/6  (.+)\n.+\n(?:.*req/s.*\n)*After \d+ s: .+$", demo.out, re.MULTILINE)
    assert tuple(told) == STORY, demo.out


def test_a_run_that_is_shorter_than_the_tour_says_so(start_demo: StartDemo) -> None:
    demo = start_demo("--seconds", "3")

    assert demo.ended() == 1
    assert demo.err == (
        "tidegate demo: the time was over in step 1 of 6 (Steady load): the tour takes about two minutes, "
        "and --quiet leaves it out\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_tour_is_no_failure(start_demo: StartDemo, number: signal.Signals) -> None:
    demo = start_demo()
    demo.until_shown("1/6  Steady load")
    assert len(demo.children()) == 5

    demo.process.send_signal(number)

    assert demo.ended() == 0
    assert demo.err == ""


def test_the_load_of_the_tour_cannot_be_changed(start_demo: StartDemo) -> None:
    demo = start_demo("--rate", "20")

    assert demo.ended() == 2
    assert "the tour has its own load" in demo.err


def test_on_a_terminal_it_is_told_above_the_table(start_demo: StartDemo) -> None:
    demo = start_demo(tty=True)
    until(lambda: "After " in demo.out or demo.process.poll() is not None, "the first step")

    demo.process.send_signal(signal.SIGINT)

    assert demo.ended() == 0
    assert demo.out.index("1/6  Steady load") < demo.out.index("over the last") < demo.out.index("After ")
