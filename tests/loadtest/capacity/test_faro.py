"""Faro's benchmark on a short workload: its queues, its cluster, and what the command says."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from loadtest.capacity.__main__ import app
from loadtest.capacity.faro import Run, make, missed, play
from loadtest.capacity.faro_world import COLD, KEPT, LEAVING, WARM, Cluster, Result, judge
from loadtest.capacity.replica_queue import OUTSTANDING, WAITING, ReplicaQueue


def queue(arrivals: list[float], replicas: int, service: float = 1.0) -> ReplicaQueue:
    return ReplicaQueue(np.array(arrivals), np.full(len(arrivals), service), replicas)


class TestQueue:
    def test_replicas_serve_in_turn_one_request_at_a_time(self) -> None:
        requests = queue([0.0, 0.1, 0.2, 0.3], 2)
        requests.advance(10)
        assert requests.ends == pytest.approx([1.0, 1.1, 2.0, 2.1])

    def test_who_finds_all_replicas_full_waits_for_the_first_with_room(self) -> None:
        requests = queue([0.0] * (OUTSTANDING + 2), 1)
        requests.advance(10)
        assert requests.ends == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])

    def test_who_finds_the_head_full_is_dropped(self) -> None:
        requests = queue([0.0] * 60, 1)
        requests.advance(1000)
        served = [end for end in requests.ends if end < np.inf]
        assert len(served) == OUTSTANDING + WAITING + 1

    def test_a_new_replica_takes_who_waits_once_it_is_there(self) -> None:
        requests = queue([0.0] * (OUTSTANDING + 1), 1, service=10.0)
        requests.advance(5)
        requests.resize(2, 5.0)
        requests.advance(100)
        assert requests.ends[-1] == 15.0

    def test_a_replica_that_goes_finishes_what_it_has(self) -> None:
        requests = queue([0.0, 0.0, 3.0], 2, service=5.0)
        requests.advance(1)
        requests.resize(1, 1.0)
        requests.advance(100)
        assert requests.ends == [5.0, 5.0, 10.0]


class Fixed:
    """Wants numbers from a timetable."""

    name = "fixed"
    start = 1

    def __init__(self, timetable: dict[float, list[int]]) -> None:
        self._timetable = timetable

    def decide(self, now: float, cluster: Cluster) -> list[int] | None:
        return self._timetable.get(now)


def replicas_over_time(timetable: dict[float, list[int]], limit: int) -> dict[float, list[int]]:
    found: dict[float, list[int]] = {}
    cluster = Cluster(np.full((2, 4), 30), limit, 1, 1)
    cluster.run(Fixed(timetable), lambda now, seen: found.update({now: [job.queue.replicas for job in seen.jobs]}))
    return found


class TestCluster:
    def test_a_new_replica_starts_cold(self) -> None:
        seen = replicas_over_time({10.0: [2, 1]}, 4)
        assert seen[10 + COLD // 10 * 10] == [1, 1]
        assert seen[10 + COLD + 5] == [2, 1]

    def test_a_pod_is_free_for_another_job_only_after_it_was_kept(self) -> None:
        seen = replicas_over_time({10.0: [2, 1], 60.0: [1, 2]}, 3)
        moved = 60 + LEAVING + KEPT + COLD
        assert seen[60 + LEAVING + 5] == [1, 1]
        assert seen[moved // 10 * 10] == [1, 1]
        assert seen[moved + 10] == [1, 2]

    def test_a_job_gets_its_own_pod_back_warm(self) -> None:
        seen = replicas_over_time({10.0: [2, 1], 60.0: [1, 1], 80.0: [2, 1]}, 3)
        assert seen[70] == seen[80] == [1, 1]
        assert seen[80 + WARM + 7] == [2, 1]

    def test_pods_never_pass_the_limit(self) -> None:
        cluster = Cluster(np.full((3, 10), 600), 7, 1, 1)
        pods: list[int] = []
        cluster.run(make("Tidegate", 7, 3), lambda _now, seen: pods.append(sum(job.pods for job in seen.jobs)))
        assert max(pods) == 7


def test_a_minute_of_each_job_weighs_the_same() -> None:
    cluster = Cluster(np.array([[60, 60], [60, 60]]), 2, 1, 1)
    for job in cluster.jobs:
        job.queue.ends = [arrival + 0.1 for arrival in job.queue.arrivals[:-1]]
    late = cluster.jobs[0].queue
    late.ends = [arrival + (1.44 if arrival < 60 else 0.1) for arrival in late.arrivals[:-1]]
    cluster.jobs[1].queue.ends[-1] = np.inf  # dropped
    result = judge(cluster)
    assert result.violations == pytest.approx((0.5, 0.5 / 60), abs=0.01)
    assert result.lost_utility == pytest.approx(0.25 + 0.5, abs=0.01)


def wanted_by_tidegate(counts: NDArray[np.int64], limit: int) -> list[list[int]]:
    """Return what each job should have, every 10 s."""
    wanted: list[list[int]] = []
    cluster = Cluster(counts, limit, 1, 1)
    cluster.run(make("Tidegate", limit, len(counts)), lambda _, seen: wanted.append([job.wanted for job in seen.jobs]))
    return wanted


def test_decisions_know_nothing_of_what_is_to_come() -> None:
    past = np.full((3, 10), 400)
    futures = [np.full((3, 5), future) for future in (0, 400, 1500)]
    decisions = [wanted_by_tidegate(np.concatenate((past, future), axis=1), 9) for future in futures]
    assert decisions[0][:60] == decisions[1][:60] == decisions[2][:60]
    assert decisions[0] != decisions[2]


def test_a_steady_load_keeps_its_replicas() -> None:
    wanted = wanted_by_tidegate(np.full((3, 40), 600), 12)
    assert wanted[60:] == [[4, 4, 4]] * len(wanted[60:])


def changing_loads(minutes: int) -> NDArray[np.int64]:
    """Return four jobs of which each is busy at another time."""
    rows = [[900 if (minute // 10 + job) % 4 == 0 else 300 for minute in range(minutes)] for job in range(4)]
    return np.array(rows, dtype=np.int64)


def test_sharing_loses_less_than_fixed_shares() -> None:
    counts = changing_loads(40)
    own, fixed = (play(counts, policy, 9, 42) for policy in ("Tidegate", "FairShare"))
    assert own.result.violation_rate < fixed.result.violation_rate / 1.5
    assert own.result.lost_utility < fixed.result.lost_utility / 1.3
    assert own.decisions


@pytest.mark.parametrize("policy", ["AIAD", "Oneshot"])
def test_reactive_policies_scale_out(policy: str) -> None:
    counts = changing_loads(20)
    reactive = play(counts, policy, 12, 42)
    assert 0 < reactive.result.violation_rate < 0.5
    again = play(counts, policy, 12, 42)
    assert again.result == reactive.result


def test_a_missed_target_is_found() -> None:
    good, bad = Result((0.03,), 0.7, 1), Result((0.05,), 0.9, 1)
    assert missed([Run("Tidegate", 32, 1, good, (0.01,))]) == []
    assert missed([Run("Tidegate", 32, 1, bad, (0.06,)), Run("AIAD", 32, 1, bad, ())]) == [
        "32 replicas: violation rate 0.0500 (most 0.035)",
        "32 replicas: lost utility 0.900 (most 0.75)",
        "32 replicas: p99 of a decision 60 ms (most 50 ms)",
    ]
    assert missed([Run("Tidegate", 16, 1, bad, (0.01,))]) == []


class TestCommand:
    @pytest.fixture
    def workload(self, tmp_path: Path) -> Path:
        rows = changing_loads(6)
        lines = [
            json.dumps(
                {"ts": minute, "counts": {f"job{job}": {"model": int(count)} for job, count in enumerate(column)}}
            )
            for minute, column in enumerate(rows.T)
        ]
        path = tmp_path / "workload.json"
        path.write_text("\n".join(lines) + "\n")
        return path

    def test_it_prints_each_policy_and_size(self, workload: Path) -> None:
        done = CliRunner().invoke(
            app, ["faro", "--sizes", "9", "--seeds", "1,2", "--processes", "1"], env={"FARO_WORKLOAD": str(workload)}
        )
        assert done.exit_code == 0, done.output
        rows = [[cell.strip() for cell in line.split("│")[1:4]] for line in done.output.splitlines() if "│" in line]
        assert rows == [["9", name, "2"] for name in ("Tidegate", "Sum", "FairShare", "Oneshot", "AIAD")]

    def test_a_missed_target_is_an_exit_code(self, workload: Path) -> None:
        # Six minutes are mostly cold starts.
        options = ["--sizes", "32", "--seeds", "1", "--policies", "Tidegate", "--processes", "1"]
        done = CliRunner().invoke(app, ["faro", "--workload", str(workload), *options])
        assert done.exit_code == 1
        assert "32 replicas: violation rate" in done.output

    def test_wrong_options_are_explained(self, workload: Path, tmp_path: Path) -> None:
        missing = CliRunner().invoke(app, ["faro", "--workload", str(tmp_path / "none")])
        assert missing.exit_code == 2
        unknown = CliRunner().invoke(app, ["faro", "--workload", str(workload), "--policies", "Guess"])
        assert unknown.exit_code == 2
        assert "Guess" in unknown.output
