from dataclasses import replace

import pytest

from loadtest.bench.measure import LONGEST, Measurement, Window
from loadtest.bench.summary import Summary, added_ms, cpu_us, relayed_chunk_us, summarize


def window(cpu: float = 0.0, foreign: float = 0.0, stolen: float = 0.0, **load: object) -> Window:
    return Window(seconds=3.0, cpu=cpu, foreign=foreign, stolen=stolen, load={"errors": 0, **load})


def low(ttft: tuple[float, float], relay: tuple[float, float]) -> Window:
    return window(ttft_us={"p50": ttft[0], "p99": ttft[1]}, relay_us={"p50": relay[0], "p99": relay[1]})


DIRECT = Measurement("direct", windows={"low": low(ttft=(20_100, 20_200), relay=(10, 20))})


@pytest.fixture
def gateway() -> Measurement:
    return Measurement(
        "tidegate",
        start_seconds=0.2,
        idle_stream_kb=5.5,
        connects_per_10k=3.0,
        windows={
            "plain": window(cpu=1.0, win_done=50_000),
            "one_chunk": window(cpu=1.0, win_done=40_000),
            "burst": window(cpu=1.0, win_done=10_000),
            "paced": window(cpu=0.5, win_events=25_000),
            "low": low(ttft=(20_350, 20_800), relay=(60, 220)),
            LONGEST[0].scenario.name: window(cpu=1.0, win_done=500),
        },
    )


class TestCpu:
    def test_is_the_windows_cpu_over_what_was_done_in_it(self) -> None:
        assert cpu_us([window(cpu=1.5, win_done=60_000)], "win_done") == pytest.approx(25.0)

    def test_of_several_windows_is_their_median_so_one_bad_window_does_not_count(self) -> None:
        windows = [window(cpu=cpu, win_done=1_000_000) for cpu in (17.0, 900.0, 16.0)]
        assert cpu_us(windows, "win_done") == pytest.approx(17.0)

    def test_of_a_window_in_which_nothing_was_done_is_all_of_its_cpu(self) -> None:
        assert cpu_us([window(cpu=0.25, win_done=0)], "win_done") == pytest.approx(250_000.0)

    def test_of_a_relayed_chunk_leaves_out_what_a_stream_costs_anyway(self) -> None:
        request, chunk = 24.0, 14.0
        stream = request + 127 * chunk
        assert relayed_chunk_us(stream / 128, request) == pytest.approx(chunk)


def test_latencies_are_what_each_percentile_has_more_in_milliseconds() -> None:
    gateway, direct = (window(ttft_us={"p50": p50, "p99": p99}) for p50, p99 in ((300, 900), (100, 200)))
    assert added_ms(gateway, direct, "ttft_us") == pytest.approx((0.2, 0.7))


class TestSummary:
    def test_adds_up_every_figure_of_the_table(self, gateway: Measurement) -> None:
        summary = summarize(gateway, DIRECT)
        assert summary.plain_us == pytest.approx(20.0)
        assert summary.one_chunk_us == pytest.approx(25.0)
        assert summary.burst_us == pytest.approx(100.0)
        assert summary.chunk_us == pytest.approx((20.0 * 128 - 25.0) / 127)
        assert (summary.idle_stream_kb, summary.connects_per_10k) == (5.5, 3.0)

    def test_latencies_are_what_the_gateway_adds_to_the_bare_engine(self, gateway: Measurement) -> None:
        summary = summarize(gateway, DIRECT)
        assert summary.added_ttft_ms == pytest.approx((0.25, 0.6))
        assert summary.added_relay_ms == pytest.approx((0.05, 0.2))

    def test_a_long_prompt_costs_what_its_window_says(self, gateway: Measurement) -> None:
        assert summarize(gateway, DIRECT).body_us == {LONGEST[0]: pytest.approx(2000.0)}

    def test_errors_of_every_window_count(self, gateway: Measurement) -> None:
        gateway.windows["plain"] = window(win_done=1, errors=2)
        gateway.windows["burst"] = window(win_done=1, errors=3)
        assert summarize(gateway, DIRECT).errors == 5

    def test_tells_which_windows_were_noisy(self, gateway: Measurement) -> None:
        gateway.windows["plain"] = window(win_done=1, foreign=6.1)
        gateway.windows["burst"] = window(win_done=1, stolen=8.1)
        gateway.windows["one_chunk"] = window(win_done=1, foreign=5.9, stolen=7.9)
        assert summarize(gateway, DIRECT).noisy == {"plain", "burst"}

    def test_latencies_are_as_noisy_as_those_of_the_bare_engine(self, gateway: Measurement) -> None:
        bare = replace(DIRECT.windows["low"], stolen=8.1)
        assert summarize(gateway, Measurement("direct", windows={"low": bare})).noisy == {"low"}

    def test_what_was_not_measured_is_nothing(self) -> None:
        assert summarize(Measurement("off"), DIRECT) == Summary()
