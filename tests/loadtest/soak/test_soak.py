"""A few seconds of the soak, and how it judges what it saw."""

import asyncio
from pathlib import Path

import pytest

from loadtest.soak.leaks import Course
from loadtest.soak.soak import WATCHED, soak


class TestCourse:
    def test_what_varies_around_a_level_is_flat(self) -> None:
        samples = [(float(second), 100.0 + second % 7) for second in range(600)]
        assert Course.of("fds", samples, warm=60, allowed=0.05).flat

    def test_what_grows_slowly_but_surely_is_not(self) -> None:
        samples = [(float(second), 100.0 + second / 60) for second in range(600)]
        course = Course.of("fds", samples, warm=60, allowed=0.05)
        assert not course.flat
        assert course.first < 103 < course.last <= course.highest

    def test_the_time_to_warm_up_does_not_count(self) -> None:
        samples = [(float(second), min(100.0, float(second))) for second in range(600)]
        assert Course.of("fds", samples, warm=120, allowed=0.0).flat

    def test_too_few_samples_say_nothing(self) -> None:
        with pytest.raises(ValueError, match="fds: 9 samples after 60 s say nothing"):
            Course.of("fds", [(60.0 + n, 1.0) for n in range(9)], warm=60, allowed=0.05)


def test_trouble_of_every_kind_leaves_nothing_in_progress_and_loses_no_request(tmp_path: Path) -> None:
    seen = asyncio.run(soak(6.0, 15.0, 3, tmp_path))
    assert seen.requests > 50
    assert seen.outcomes["ok"] > 10
    assert seen.hung_up
    assert seen.flaps
    assert seen.written
    assert seen.told["tidegate_reloads_total"]
    assert seen.rest == dict.fromkeys(seen.rest, 0.0)
    assert seen.requests - seen.hung_up <= seen.told["tidegate_requests_total"] <= seen.requests
    assert set(seen.samples) == set(WATCHED)
