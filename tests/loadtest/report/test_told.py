import pytest

from loadtest.report.told import read

METRICS = """# HELP tidegate_attempts_total tries
# TYPE tidegate_attempts_total counter
tidegate_attempts_total{backend="a",outcome="ok",pool="gpu",version="v1"} %d.0
tidegate_attempts_total{backend="a",outcome="truncated",pool="gpu",version="v1"} 1.0
tidegate_attempts_total{backend="b",outcome="ok",pool="gpu",version="v2"} %d.0
tidegate_backend_routing_burn{backend="a",pool="gpu"} 2.5
tidegate_backend_in_flight{backend="a",pool="gpu"} 3.0
tidegate_backend_in_flight_more{backend="a",pool="gpu"} 9.0
tidegate_queue_depth{class="batch",model="m",version="v1"} 4.0
tidegate_queue_depth{class="batch",model="n",version="v1"} 1.0
tidegate_canary_weight_ratio{model="m",version="v2"} 0.05
tidegate_requests_total{model="m"} 7.0
"""


def test_what_the_gateway_says_becomes_samples() -> None:
    samples, attempts = read(METRICS % (9, 5), 1.0, {})
    told = {(sample.name, sample.label): sample.value for sample in samples}
    assert attempts == {"a": 10, "b": 5}
    assert told == {("burn", "a"): 2.5, ("in_flight", "a"): 3, ("queue", "batch"): 5, ("split", "v2"): 0.05}


def test_shares_are_of_the_attempts_since_the_last_reading() -> None:
    _, before = read(METRICS % (9, 5), 1.0, {})
    samples, _ = read(METRICS % (12, 6), 2.0, before)
    shares = {sample.label: sample.value for sample in samples if sample.name == "share"}
    assert shares == pytest.approx({"a": 0.75, "b": 0.25})
    again, _ = read(METRICS % (9, 5), 2.0, before)
    assert not [sample for sample in again if sample.name == "share"]
