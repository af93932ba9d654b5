"""A few seconds of the soak, and how it judges what it saw."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from loadtest.soak.leaks import Allowed, Course
from loadtest.soak.soak import WATCHED, soak


def course(values: Iterable[float], *, warm: float = 60, after: float = 0, share: float = 0.05) -> Course:
    """Return the course of a figure that is seen once a second."""
    samples = [(float(second), value) for second, value in enumerate(values)]
    return Course.of("figure", samples, warm=warm, allowed=Allowed(share, after=after))


class TestCourse:
    def test_what_varies_around_a_level_has_not_grown(self) -> None:
        assert not course(100.0 + second % 7 for second in range(600)).grew

    def test_what_grows_slowly_but_surely_has(self) -> None:
        found = course(100.0 + second / 60 for second in range(600))
        assert found.grew
        assert found.first < 103 < found.last <= found.highest

    def test_a_step_is_no_growth_and_growth_beside_a_step_is(self) -> None:
        assert not course([85.0] * 250 + [105.0] * 350).grew
        assert course(100.0 + second / 60 + (20 if second > 250 else 0) for second in range(600)).grew

    def test_the_time_to_warm_up_does_not_count(self) -> None:
        assert not course((min(100.0, float(second)) for second in range(600)), warm=120, share=0.0).grew

    def test_a_run_that_is_too_short_for_a_figure_that_settles_slowly_is_not_judged_by_it(self) -> None:
        settling = [80.0 + min(5.0, second / 8) for second in range(600)]
        glance = course(settling[:60], warm=20, after=300)
        assert (glance.judged, glance.grew) == (False, False)
        whole = course(settling, after=300)
        assert (whole.judged, whole.grew) == (True, False)

    def test_nine_samples_say_nothing(self) -> None:
        found = course(range(69))
        assert (found.judged, found.grew) == (False, False)

    def test_a_run_that_ends_before_it_is_warm_says_nothing(self) -> None:
        assert not course(range(50)).judged

    def test_without_samples_there_is_no_course(self) -> None:
        with pytest.raises(ValueError, match="figure: there are no samples"):
            course([])


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
