import math
from dataclasses import replace

import pytest

from gateway.cli.demo.exposition import parse
from gateway.cli.demo.figures import Reading, compare, quantile, read

INF = math.inf
EMPTY = read(parse(""), at=100.0)


def exposition(*, ok: int, bad: int = 0, gone: int = 0, fast: int = 0, slow: int = 0) -> str:
    """What a gateway says with `fast` streams on GPUs that began within 20 ms, and `slow` on CPUs within 500 ms."""
    request = 'tidegate_requests_total{model="m",version="v1",class="standard",endpoint="/v1/completions"'
    attempt = 'tidegate_attempts_total{version="v1",outcome='
    ttft = "tidegate_time_to_first_token_seconds_bucket"
    return f"""\
# TYPE tidegate_requests counter
{request},outcome="ok"}} {ok}
{request},outcome="backend_error"}} {bad}
{request},outcome="client_gone"}} {gone}
# TYPE tidegate_attempts counter
{attempt}"ok",backend="gpu/a",pool="gpu"}} {fast}
{attempt}"ok",backend="cpu/b",pool="cpu"}} {slow}
{attempt}"stalled",backend="cpu/b",pool="cpu"}} {bad}
# TYPE tidegate_time_to_first_token_seconds histogram
{ttft}{{model="m",pool="gpu",le="0.01"}} 0
{ttft}{{model="m",pool="gpu",le="0.02"}} {fast}
{ttft}{{model="m",pool="gpu",le="0.25"}} {fast}
{ttft}{{model="m",pool="gpu",le="0.5"}} {fast}
{ttft}{{model="m",pool="gpu",le="+Inf"}} {fast}
{ttft}{{model="m",pool="cpu",le="0.01"}} 0
{ttft}{{model="m",pool="cpu",le="0.02"}} 0
{ttft}{{model="m",pool="cpu",le="0.25"}} 0
{ttft}{{model="m",pool="cpu",le="0.5"}} {slow}
{ttft}{{model="m",pool="cpu",le="+Inf"}} {slow}
# TYPE tidegate_inter_token_latency_seconds histogram
tidegate_inter_token_latency_seconds_bucket{{model="m",pool="gpu",le="0.025"}} {10 * fast}
tidegate_inter_token_latency_seconds_bucket{{model="m",pool="gpu",le="+Inf"}} {10 * fast}
# TYPE tidegate_backend_state gauge
tidegate_backend_state{{backend="gpu/a",pool="gpu",state="ready"}} 1
tidegate_backend_state{{backend="gpu/a",pool="gpu",state="not_ready"}} 0
tidegate_backend_state{{backend="cpu/b",pool="cpu",state="ready"}} 0
tidegate_backend_state{{backend="cpu/b",pool="cpu",state="not_ready"}} 1
# TYPE tidegate_backend_in_flight gauge
tidegate_backend_in_flight{{backend="gpu/a",pool="gpu"}} 3
tidegate_backend_in_flight{{backend="cpu/b",pool="cpu"}} 1
# TYPE tidegate_in_flight gauge
tidegate_in_flight 4
"""


class TestQuantiles:
    def test_within_a_bucket_observations_are_taken_to_lie_evenly(self) -> None:
        assert quantile({0.1: 0, 0.2: 10, INF: 10}, 0.5) == pytest.approx(0.15)
        assert quantile({0.1: 10, 0.2: 20, INF: 20}, 0.25) == pytest.approx(0.05)

    def test_empty_buckets_between_are_passed_over(self) -> None:
        assert quantile({0.1: 5, 0.2: 5, 0.4: 10, INF: 10}, 0.6) == pytest.approx(0.24)

    def test_beyond_the_last_bound_nothing_more_is_known(self) -> None:
        assert quantile({0.1: 1, INF: 10}, 0.99) == 0.1

    @pytest.mark.parametrize("buckets", [{}, {0.1: 0, INF: 0}])
    def test_of_nothing_there_is_none(self, buckets: dict[float, float]) -> None:
        assert quantile(buckets, 0.5) is None


class TestBetweenTwoReadings:
    @pytest.fixture
    def before(self) -> Reading:
        return read(parse(exposition(ok=100, bad=50, fast=10, slow=90)), at=10.0)

    def test_only_what_happened_in_between_counts(self, before: Reading) -> None:
        figures = compare(read(parse(exposition(ok=140, bad=50, fast=40, slow=100)), at=20.0), before)

        assert (figures.seconds, figures.requests, figures.rate) == (10.0, 40, 4.0)
        assert figures.availability == 1.0
        gpu = next(backend for backend in figures.backends if backend.pool == "gpu")
        assert (gpu.rate, gpu.share) == (3.0, 0.75)
        assert gpu.pool_ttft_p50 == pytest.approx(0.015)
        assert figures.ttft_p99 == pytest.approx(0.25 + 0.25 * 0.96)
        assert figures.itl_p99 == pytest.approx(0.99 * 0.025)

    def test_who_hangs_up_is_no_failure(self, before: Reading) -> None:
        figures = compare(read(parse(exposition(ok=103, bad=51, gone=6, fast=10, slow=90)), at=20.0), before)

        assert figures.requests == 10
        assert figures.availability == 0.75

    def test_failed_attempts_are_attempts(self, before: Reading) -> None:
        figures = compare(read(parse(exposition(ok=101, bad=53, fast=11, slow=90)), at=20.0), before)

        assert {backend.name: backend.share for backend in figures.backends} == {"cpu/b": 0.75, "gpu/a": 0.25}

    def test_states_and_in_flight_are_of_now(self, before: Reading) -> None:
        figures = compare(replace(before, at=20.0), before)

        assert figures.in_flight == 4
        assert [(each.name, each.state, each.in_flight) for each in figures.backends] == [
            ("cpu/b", "not_ready", 1),
            ("gpu/a", "ready", 3),
        ]

    def test_what_there_is_not_is_none(self, before: Reading) -> None:
        figures = compare(before, before)

        assert figures.rate == 0.0
        assert (figures.availability, figures.ttft_p50, figures.ttft_p99, figures.itl_p99) == (None,) * 4
        assert {backend.share for backend in figures.backends} == {None}

    def test_a_gateway_that_has_served_nothing_yet_can_be_read(self) -> None:
        assert compare(EMPTY, EMPTY).requests == 0


def test_what_is_not_metrics_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid"):
        parse('{"error": {"message": "forbidden"}}')
