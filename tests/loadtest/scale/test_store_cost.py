"""From a Redis server's counters to fleets of any size."""

import time
from pathlib import Path

import pytest

from gateway.state.redis_store import RedisStore
from gateway.state.store import Batch
from loadtest.scale.store_cost import ROWS_PER_SERIES, Counters, Rate, Stored, project, rate, read, stored, table
from tests.redis_server import redis_server
from tests.state.counts import slots
from tests.state.test_contract import M

REST, LOAD = Rate(40, 2, 1000, 100, 1.0), Rate(1040, 2, 11_000, 2100, 21.0)


def test_a_rate_is_that_of_one_replica_in_one_second() -> None:
    before, after = Counters(100.0, 50, 10, 1000, 500, 1.0), Counters(110.0, 450, 50, 3000, 900, 1.5)
    assert rate(before, after, 2) == Rate(20.0, 2.0, 100.0, 20.0, 25.0)


def test_a_fleet_costs_its_replicas_and_each_its_series() -> None:
    ten, thousand = project(REST, LOAD, Stored(100, 5000, 150.0), 50, (10, 1000))
    assert (ten.operations, ten.bytes, ten.cores) == (10 * 540, 10 * 7100, pytest.approx(0.11))
    assert thousand.operations == 100 * ten.operations
    assert ten.memory == 11 * 50 * ROWS_PER_SERIES * 150.0, "the sums are a row of each, too"


def test_the_table_has_a_line_for_each() -> None:
    lines = list(table(project(REST, LOAD, Stored(100, 5000, 150.0), 50, (10, 1000))))
    assert lines[2] == "| 50 | 10 | 5,400 | 0.07 | 0.11 | 112 MB |"
    assert len(lines) == 4


def test_it_counts_what_a_gateway_does_and_not_its_own_questions(tmp_path: Path) -> None:
    now = float(int(time.time()))
    with redis_server(tmp_path / "redis") as server, server.client() as client:
        store = RedisStore(server.url)
        store.lead("one", now, 5.0)
        before = read(client)
        assert read(client).operations == before.operations
        for sequence in range(1, 4):
            store.save(Batch(now, slots(M, sequence, 0, now), incarnation="one", sequence=sequence))
        after, kept = read(client), stored(client)
        store.close()
    assert after.scripts - before.scripts == 3
    assert after.operations - before.operations > 3 * 16, "each row is read and written, and so is its sum"
    assert after.bytes_in > before.bytes_in
    assert (kept.series, kept.rows) == (1, 4)
    assert 50 < kept.bytes_per_row < 1000
