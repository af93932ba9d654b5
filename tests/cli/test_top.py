"""`tidegate top`: what it makes of a gateway's status and counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.demo.exposition import Samples
from gateway.cli.top import Meter, Sort
from tests.cli.test_asking import tidegate
from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat, gateway
from tests.e2e.harness import routes as routes_of


def status(*backends: dict[str, Any]) -> dict[str, Any]:
    """Return what the gateway tells of its backends, as far as it is shown."""
    usual = {"state": "ready", "drained": False, "ejection": "in_service", "weight": 1.0, "in_flight": 0, "limit": 32}
    times = {"predicted_ttft_seconds": 0.07, "observed_ttft_seconds": None, "engine": None, "models": None}
    names = ({"id": f"gpu/{name}", "pool": "gpu"} for name in "abc")
    found = [usual | times | name | each for name, each in zip(names, backends, strict=False)]
    waiting = [{"name": "v1", "pools": ["gpu"], "weight": 0, "waiting": {"standard": 2, "batch": 0}}]
    return {
        "version": "1.0",
        "draining": False,
        "in_flight": 3,
        "models": [{"name": "m", "versions": waiting}],
        "backends": found,
        "routes": {"problems": [], "sources": ["routes.yaml"]},
    }


def samples(requests: float, burn: float = 0.0, **attempts: float) -> Samples:
    """Return the counts of the gateway, with the burn rate of the first backend over two windows."""
    of_a = (("name", "gpu/a"), ("subject", "backend"))
    return {
        "tidegate_requests_total": {(("outcome", "ok"),): requests - 1, (("outcome", "shed"),): 1.0},
        "tidegate_attempts_total": {(("backend", f"gpu/{name}"),): count for name, count in attempts.items()},
        "tidegate_burn_rate": {
            (*of_a, ("sli", "ttft"), ("window", "5m")): burn,
            (*of_a, ("sli", "tpot"), ("window", "5m")): burn / 2,
            (*of_a, ("sli", "ttft"), ("window", "1h")): 100.0,
        },
    }


def test_rates_and_shares_are_those_of_the_last_seconds() -> None:
    meter = Meter(Sort.NAME)
    first = meter.document(status({}, {}), samples(100, a=50, b=50), now=1000.0)
    assert first["requests_per_second"] is None
    assert [each["requests_per_second"] for each in first["backends"]] == [None, None]
    second = meter.document(status({}, {}), samples(108, burn=3.0, a=56, b=52), now=1002.0)
    assert (second["requests_per_second"], second["seconds"]) == (4.0, 2.0)
    assert [each["requests_per_second"] for each in second["backends"]] == [3.0, 1.0]
    assert [each["share"] for each in second["backends"]] == [0.75, 0.25]
    assert [each["burn"] for each in second["backends"]] == [3.0, None]
    assert second["waiting"] == {"standard": 2, "batch": 0}
    for tick in range(1, 21):
        last = meter.document(status({}, {}), samples(108 + tick, a=56 + tick, b=52), now=1002.0 + tick)
    assert (last["requests_per_second"], last["seconds"]) == (1.0, 10.0)


def test_a_gateway_that_began_anew_is_counted_from_its_beginning() -> None:
    meter = Meter(Sort.NAME)
    meter.document(status({}), samples(100, a=50), now=1000.0)
    assert meter.document(status({}), samples(5, a=5), now=1001.0)["requests_per_second"] is None
    assert meter.document(status({}), samples(7, a=7), now=1002.0)["requests_per_second"] == 2.0


@pytest.mark.parametrize(
    ("sort", "first"),
    [(Sort.NAME, "gpu/a"), (Sort.LOAD, "gpu/b"), (Sort.TTFT, "gpu/c"), (Sort.RATE, "gpu/b"), (Sort.BURN, "gpu/a")],
)
def test_backends_are_sorted_by_what_is_asked_for(sort: Sort, first: str) -> None:
    meter = Meter(sort)
    told = status({"in_flight": 1}, {"in_flight": 4, "limit": 8}, {"in_flight": 9, "observed_ttft_seconds": 0.2})
    meter.document(told, samples(10, a=1, b=1, c=1), now=1000.0)
    found = meter.document(told, samples(20, burn=1.0, a=2, b=6, c=4), now=1001.0)
    assert found["backends"][0]["id"] == first


def test_backends_that_are_not_well_come_first() -> None:
    told = status({}, {"drained": True}, {"ejection": "half_open"})
    found = Meter(Sort.NAME).document(told, samples(10), now=1000.0)
    assert [(each["id"], each["state"]) for each in found["backends"]] == [
        ("gpu/b", "drained"),
        ("gpu/c", "half open"),
        ("gpu/a", "ready"),
    ]


@pytest.mark.anyio
async def test_it_shows_the_backends_of_a_running_gateway(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes_of(fake.url)) as running:
        await ask(running.port, chat())
        await running.quiet()
        shown = (await tidegate(running, "top", "--once", "--interval", "0.2")).stdout
        assert "0 in flight, 0 waiting" in shown
        assert running.backend().id in shown
        told = json.loads((await tidegate(running, "top", "--once", "--interval", "0.2", "--json")).stdout)
        assert [each["id"] for each in told["backends"]] == [running.backend().id]
        assert told["requests_per_second"] == 0.0
