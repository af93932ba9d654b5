"""Requests that come as in the trace of a code assistant."""

from itertools import pairwise
from random import Random
from statistics import fmean, median, pstdev

from loadtest.scenarios.code_trace import code_assistant, part
from loadtest.traces.formats import Arrival


def test_synthetic_requests_have_the_bursts_and_lengths_of_the_trace() -> None:
    found = list(code_assistant(10 * 3420, Random(1)))
    gaps = [later.at - earlier.at for earlier, later in pairwise(found)]
    assert 10 < pstdev(gaps) / fmean(gaps) < 16
    assert 7000 < len(found) / 10 < 11000
    assert 1300 < median(each.prompt_tokens for each in found) < 1600
    assert 11 <= median(each.output_tokens for each in found) <= 15


def test_a_part_of_a_trace_starts_anywhere_and_counts_from_there() -> None:
    trace = [Arrival(float(at), at + 1, 1) for at in range(100)]
    found = list(part(trace, 10.0, Random(1)))
    assert len(found) == 10
    assert 0.0 <= found[0].at < 1.0
    assert found[0].prompt_tokens > 1
    assert len(list(part(trace, 1000.0, Random(1)))) == 100
