"""Metrics of several workers as one: nothing that counts ever falls."""

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.workers.merging import GAUGES, Expositions, parsed, rendered

TOTAL = 'tidegate_requests_total{model="a b",outcome="ok"}'


def exposition(requests: float, depth: float = 0, state: float = 1, lag: float = 0) -> bytes:
    return f"""# HELP tidegate_requests_total Requests by "how" they ended.
# TYPE tidegate_requests_total counter
{TOTAL} {requests}
# HELP tidegate_queue_depth Requests that wait.
# TYPE tidegate_queue_depth gauge
tidegate_queue_depth {depth}
# HELP tidegate_loop_lag_seconds Delay.
# TYPE tidegate_loop_lag_seconds gauge
tidegate_loop_lag_seconds {lag}
# HELP tidegate_backend_state State.
# TYPE tidegate_backend_state gauge
tidegate_backend_state {state}
# HELP tidegate_queue_seconds Time.
# TYPE tidegate_queue_seconds histogram
tidegate_queue_seconds_bucket{{le="1.0"}} {requests}
tidegate_queue_seconds_bucket{{le="+Inf"}} {requests}
tidegate_queue_seconds_count {requests}
tidegate_queue_seconds_sum {requests}
""".encode()


def total(expositions: Expositions, *workers: int) -> float:
    return expositions.merged(workers)["tidegate_requests_total"].values.get(TOTAL, 0.0)


def test_counters_and_histograms_are_added_and_gauges_go_by_their_rule() -> None:
    seen = Expositions()
    seen.saw(1, exposition(3, depth=2, state=0, lag=0.1))
    seen.saw(2, exposition(4, depth=5, state=1, lag=0.3))
    merged = seen.merged([2, 1])
    assert merged["tidegate_requests_total"].values == {TOTAL: 7}
    assert merged["tidegate_queue_seconds"].values["tidegate_queue_seconds_count"] == 7
    assert merged["tidegate_queue_depth"].values == {"tidegate_queue_depth": 7}
    assert merged["tidegate_loop_lag_seconds"].values == {"tidegate_loop_lag_seconds": 0.3}
    assert merged["tidegate_backend_state"].values == {"tidegate_backend_state": 1}, "the leader's"
    assert seen.requests(1) == 3


def test_an_empty_answer_takes_nothing_back() -> None:
    seen = Expositions()
    seen.saw(1, exposition(3))
    seen.saw(1, b"")
    assert total(seen, 1) == 3


def test_what_a_worker_counted_outlives_it_and_what_it_holds_does_not() -> None:
    seen = Expositions()
    seen.saw(1, exposition(3, depth=2))
    seen.over(1, exposition(5, depth=1))
    seen.saw(2, exposition(1, depth=1))
    assert total(seen, 2) == 6
    assert seen.merged([2])["tidegate_queue_depth"].values == {"tidegate_queue_depth": 1}


def test_an_older_answer_that_comes_later_lets_nothing_fall() -> None:
    seen = Expositions()
    seen.saw(1, exposition(5))
    seen.saw(1, exposition(4))
    assert total(seen, 1) == 5


def test_a_worker_that_never_answered_changes_nothing() -> None:
    seen = Expositions()
    seen.over(7)
    assert seen.merged([7]) == {}
    assert seen.requests(7) == 0


@given(st.lists(st.tuples(st.sampled_from(("saw", "killed", "drained", "successor")), st.integers(1, 3))))
def test_no_count_falls_through_ends_and_successors(steps: list[tuple[str, int]]) -> None:
    seen, counts, before, process = Expositions(), {1: 0.0, 2: 0.0, 3: 0.0}, 0.0, {1: 1, 2: 2, 3: 3}
    for turn, (step, place) in enumerate(steps):
        counts[place] += turn
        if step == "saw":
            seen.saw(process[place], exposition(counts[place]))
        elif step == "successor":
            seen = Expositions.restored(seen.state())
        else:
            seen.over(process[place], exposition(counts[place]) if step == "drained" else b"")
            counts[place], process[place] = 0.0, 10 + turn
        found = seen.merged(process.values())
        now = found["tidegate_requests_total"].values[TOTAL] if found else 0.0
        assert now >= before
        before = now


def test_both_formats_are_what_parsers_expect() -> None:
    families = parsed(exposition(3, depth=1))
    text = b"".join(rendered(families, open_metrics=False))
    assert parsed(text) == families
    names = {family.name: len(family.samples) for family in parse_text(text.decode())}
    open_metrics = b"".join(rendered(families, open_metrics=True)) + b"# EOF\n"
    assert {family.name: len(family.samples) for family in parse_open_metrics(open_metrics.decode())} == names
    assert names["tidegate_requests"] == 1


def test_each_rule_is_of_a_gauge() -> None:
    assert not [name for name in GAUGES if name.endswith("_total")]


def test_the_page_says_how_each_gauge_is_merged() -> None:
    page = (Path(__file__).parents[2] / "docs/workers.md").read_text()
    rules = {"the sum": sum, "the highest": max, "the lowest": min}
    found: dict[str, object] = {}
    for names, rule in re.findall(r"(?m)^\| (`.*`) \| (the \w+) \|$", page):
        found |= dict.fromkeys(re.findall(r"`(\w+)`", names), rules[rule])
    assert found == GAUGES
