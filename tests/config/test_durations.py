import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.durations import format_duration, parse_duration, parse_timeout
from gateway.config.problems import InvalidValueError

YEAR = 365 * 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("2s", 2.0), ("1.5s", 1.5), ("10m", 600.0), ("1h", 3600.0), ("28d", 2_419_200.0), ("0s", 0.0)],
)
def test_a_duration_is_one_number_and_one_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "2", "2 s", "-2s", "+2s", "1h30m", "2S", "1e3s", ".5s", "5.s", "\u0662s", None, 2]
)
def test_anything_else_is_none(text: object) -> None:
    with pytest.raises(InvalidValueError):
        parse_duration(text)


def test_a_timeout_is_longer_than_zero() -> None:
    assert parse_timeout("1ms") == 0.001
    with pytest.raises(InvalidValueError, match="at once"):
        parse_timeout("0.0h")


@given(st.floats(min_value=0, max_value=YEAR, allow_subnormal=False))
def test_what_is_formatted_parses_to_the_same_number(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["250ms", "2s", "10m", "1h", "28d", "90s", "1500ms", "36h"])
def test_the_largest_unit_that_keeps_the_number_whole(text: str) -> None:
    assert format_duration(parse_duration(text)) == text
