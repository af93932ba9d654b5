"""Commands with --watch: what is shown again and again, also while the gateway is away."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from rich.text import Text

from gateway.cli.asking import NoAnswerError
from gateway.cli.watching import watch


def looks(*told: Any) -> Callable[[], Any]:
    """Return what is found at each look, errors raised; after the last one comes Ctrl-C."""
    left: Iterator[Any] = iter(told)

    def look() -> Any:
        found = next(left, KeyboardInterrupt())
        if isinstance(found, BaseException):
            raise found
        return found

    return look


def lines(found: Any, _: int) -> list[Text]:
    return [Text(f"line {number}") for number in range(found["lines"])]


def test_elsewhere_than_on_a_terminal_each_look_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    watch(looks({"lines": 1}, {"lines": 2}), lines, 0.01, as_json=False)
    assert capsys.readouterr().out.splitlines() == ["line 0", "line 0", "line 1"]


def test_as_json_each_look_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    watch(looks({"lines": 1}, {"lines": 2}), lines, 0.01, as_json=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"lines": 1}, {"lines": 2}]


def test_a_gateway_that_is_lost_is_named_once_and_so_is_its_return(capsys: pytest.CaptureFixture[str]) -> None:
    lost = NoAnswerError("no gateway answers")
    watch(looks({"lines": 1}, lost, lost, {"lines": 2}), lines, 0.01, as_json=False)
    said = capsys.readouterr()
    assert said.out.splitlines() == ["line 0", "line 0", "line 1"]
    assert said.err.splitlines() == [
        "tidegate: no gateway answers; asking again",
        "tidegate: the gateway answers again",
    ]


def test_without_a_gateway_at_the_beginning_the_command_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        watch(looks(NoAnswerError("no gateway answers")), lines, 0.01, as_json=False)
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "tidegate: no gateway answers\n"


def test_a_terminal_shows_what_fits_and_how_much_does_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("TTY_COMPATIBLE", "1"), ("COLUMNS", "60"), ("LINES", "5")):
        monkeypatch.setenv(name, value)
    watch(looks({"lines": 9}, NoAnswerError("no gateway answers"), {"lines": 5}), lines, 0.01, as_json=False)
    out = capsys.readouterr().out
    assert "5 more lines do not fit on this screen" in out
    assert "! no gateway answers; asking again" in out
    assert "line 4" in out
    assert "line 5" not in out
