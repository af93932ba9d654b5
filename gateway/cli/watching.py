"""Commands that show something again and again: in place on a terminal, one after the other elsewhere."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from gateway.cli.asking import NoAnswerError, console, end, errors

Watch = Annotated[bool, typer.Option("--watch", help="Show it again and again until Ctrl-C; on a terminal in place.")]
Interval = Annotated[float, typer.Option(help="Seconds between two refreshes.", min=0.2, max=3600.0)]
Parts = Iterable[RenderableType]
Shown = Callable[[Any, int], Parts]
"""Returns what is shown of what was found on a screen of so many columns."""


def watch(look: Callable[[], Any], shown: Shown, interval: float, *, as_json: bool) -> None:
    """Show what `look` returns until Ctrl-C, which is no failure.

    If the first look fails, the command ends with 1. When a
    later one does, that is said, and the gateway is asked again.
    """
    screen = console()
    try:
        looks = _looks(look, interval)
        if as_json:
            _in_turn(looks, lambda found: typer.echo(json.dumps(found)))
        elif screen.is_terminal:
            _in_place(screen, looks, shown)
        else:
            _in_turn(looks, lambda found: _print_parts(screen, shown(found, screen.width)))
    except NoAnswerError as error:
        end(str(error))
    except KeyboardInterrupt:
        return


def print_found(found: Any, shown: Shown, *, as_json: bool) -> None:
    """Show once what was found."""
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        screen = console()
        _print_parts(screen, shown(found, screen.width))


def _print_parts(screen: Console, parts: Parts) -> None:
    """Print texts as they are, since commands in them are copied, and all else as wide as the screen."""
    for part in parts:
        screen.print(part, soft_wrap=isinstance(part, Text))


def _looks(look: Callable[[], Any], interval: float) -> Iterator[tuple[Any, str]]:
    """Yield what was found last, and why the latest look failed, "" where it did not."""
    found, problem = look(), ""
    while True:
        due = time.monotonic() + interval
        yield found, problem
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            found, problem = look(), ""
        except NoAnswerError as error:
            problem = str(error)


def _in_turn(looks: Iterator[tuple[Any, str]], say: Callable[[Any], None]) -> None:
    is_lost = False
    for found, problem in looks:
        if problem and not is_lost:
            errors.print(f"tidegate: {problem}; asking again", markup=False)
        elif is_lost and not problem:
            errors.print("tidegate: the gateway answers again")
        is_lost = bool(problem)
        if not problem:
            say(found)
            sys.stdout.flush()


def _in_place(screen: Console, looks: Iterator[tuple[Any, str]], shown: Shown) -> None:
    found, problem = next(looks)
    with Live(_Page(shown(found, screen.width)), console=screen, auto_refresh=False, screen=True) as live:
        for found, problem in looks:
            lost = (
                [Text(f"! {problem}; asking again, and below is what was found before\n", style="red")]
                if problem
                else []
            )
            live.update(_Page([*lost, *shown(found, screen.width)]), refresh=True)


class _Page:
    """As much as fits on the screen, and how much does not."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(Group(*self._parts), options, pad=False)
        if len(lines) > options.max_height:
            kept = options.max_height - 1
            lines[kept:] = [[Segment(f"{len(lines) - kept} more lines do not fit on this screen")]]
        for line in lines:
            yield from line
            yield Segment.line()
