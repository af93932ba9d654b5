"""The status of a machine: the leader's words, everybody's sums."""

from typing import Any

from gateway.workers.status import merged


def status(in_flight: int, waiting: int, *backends: str) -> dict[str, Any]:
    return {
        "state": {"leads": in_flight == 1},
        "in_flight": in_flight,
        "client_connections": 10,
        "backends": [
            {"id": each, "in_flight": in_flight, "kv_tokens": 7, "idle_connections": 1, "limit": 4}
            | {"failed_in_a_row": 0, "failed_seconds": None, "good_seconds": None}
            for each in backends
        ],
        "tenants": [{"name": "t", "in_flight": in_flight, "requests_left": 5}],
        "models": [
            {"name": "m", "versions": [{"name": "v", "waiting": {"batch": waiting}, "shed": {"batch": {"full": 1}}}]}
        ],
    }


def test_what_each_worker_has_for_itself_is_added_and_the_rest_is_the_leaders() -> None:
    found = merged([status(1, 2, "a", "b"), status(3, 4, "a")])
    assert (found["in_flight"], found["client_connections"]) == (4, 20)
    assert [(each["in_flight"], each["kv_tokens"], each["limit"]) for each in found["backends"]] == [
        (4, 14, 4),
        (1, 7, 4),
    ]
    assert found["tenants"] == [{"name": "t", "in_flight": 4, "requests_left": 5}]
    assert found["models"][0]["versions"][0]["waiting"] == {"batch": 6}
    assert found["models"][0]["versions"][0]["shed"] == {"batch": {"full": 2}}
    assert found["state"] == {"leads": True}


def test_when_a_backend_last_failed_or_answered_well_is_the_latest_of_all_workers() -> None:
    leader, second, third = (status(1, 2, "a") for _ in range(3))
    del third["backends"][0]["failed_in_a_row"], third["backends"][0]["failed_seconds"]  # of an earlier release
    leader["backends"][0] |= {"failed_in_a_row": 2, "failed_seconds": 9.0}
    second["backends"][0] |= {"failed_in_a_row": 1, "failed_seconds": 4.0, "good_seconds": 60.0}
    (found,) = merged([leader, second, third])["backends"]
    assert (found["failed_in_a_row"], found["failed_seconds"], found["good_seconds"]) == (3, 4.0, 60.0)


def test_what_another_worker_does_not_know_is_the_leaders_alone() -> None:
    other = status(3, 4, "c") | {"models": [], "tenants": []}
    found = merged([status(1, 2, "a"), other])
    assert [(each["id"], each["in_flight"]) for each in found["backends"]] == [("a", 1)]
    assert found["models"][0]["versions"][0]["waiting"] == {"batch": 2}


def test_what_is_used_of_a_limit_is_taken_from_the_worker_that_has_heard_of_it_last() -> None:
    def with_limits(*rows: tuple[str, int, float | None]) -> dict[str, Any]:
        limits = [
            {"tenant": name, "limit": "requests_per_minute", "left": 3, "used_here": used, "used_elsewhere": 2 * used}
            | {"heard_seconds": heard}
            for name, used, heard in rows
        ]
        return status(1, 2) | {"state": {"quotas": {"limits": limits}}}

    leader = with_limits(("a", 1, None), ("b", 2, 0.1), ("c", 3, 9.0))
    found = merged([leader, with_limits(("a", 10, 5.0), ("b", 20, 0.5)), with_limits(("c", 30, 1.0), ("d", 40, 0.0))])
    shown = [(each["tenant"], each["used_here"], each["used_elsewhere"]) for each in found["state"]["quotas"]["limits"]]
    assert shown == [("a", 10, 20), ("b", 2, 4), ("c", 30, 60)]
    assert merged([status(1, 2) | {"state": {"quotas": None}}])["state"] == {"quotas": None}


def test_whose_failures_there_were_is_added_up_and_what_is_missing_of_all_is_told() -> None:
    def with_burners(bad: int, *burners: tuple[str, str, int, int]) -> dict[str, Any]:
        told = [dict(zip(("kind", "name", "bad", "total"), each, strict=True)) for each in burners]
        one = {"model": "m", "objective": "o", "sli": "ttft", "bad": {"1h": bad}, "burners": told}
        return status(1, 2) | {"objectives": [one]}

    leader = with_burners(9, ("backend", "b", 9, 9), ("tenant", "t", 3, 5), ("tenant", "(unknown)", 6, 0))
    second = with_burners(9, ("backend", "b", 9, 9), ("tenant", "u", 4, 6), ("tenant", "t", 1, 8))
    (found,) = merged([leader, second, status(1, 2)])["objectives"]
    assert [(each["kind"], each["name"], each["bad"], each["total"]) for each in found["burners"]] == [
        ("backend", "b", 9, 9),
        ("tenant", "t", 4, 13),
        ("tenant", "u", 4, 6),
        ("tenant", "(unknown)", 1, 0),
    ]


def test_events_of_all_workers_are_told_the_newest_first_and_records_that_all_have_once() -> None:
    def with_events(worker: int, *events: tuple[int, str]) -> dict[str, Any]:
        told = [{"at": f"2026-01-01T00:00:0{at}Z", "level": "info", "about": "a", "words": each} for at, each in events]
        return status(1, 2) | {"events": [each | {"worker": worker} for each in told]}

    found = merged([with_events(7, (3, "c"), (1, "a")), with_events(8, (2, "b"), (1, "a"))])["events"]
    assert [(each["words"], each["worker"]) for each in found] == [("c", 7), ("b", 8), ("a", 8)]


def test_tenants_that_wait_are_added_up() -> None:
    one, other = status(1, 2), status(3, 4)
    one["models"][0]["versions"][0]["waiting_tenants"] = {"batch": {"acme": 2}}
    other["models"][0]["versions"][0]["waiting_tenants"] = {"batch": {"acme": 3, "zoo": 1}, "standard": {"zoo": 5}}
    found = merged([one, other])["models"][0]["versions"][0]
    assert found["waiting_tenants"] == {"batch": {"acme": 5, "zoo": 1}, "standard": {"zoo": 5}}
