"""The status of a machine: the leader's words, everybody's sums."""

from typing import Any

from gateway.workers.status import merged


def status(in_flight: int, waiting: int, *backends: str) -> dict[str, Any]:
    return {
        "state": {"leads": in_flight == 1},
        "in_flight": in_flight,
        "client_connections": 10,
        "backends": [
            {"id": each, "in_flight": in_flight, "kv_tokens": 7, "idle_connections": 1, "limit": 4} for each in backends
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


def test_what_another_worker_does_not_know_is_the_leaders_alone() -> None:
    other = status(3, 4, "c") | {"models": [], "tenants": []}
    found = merged([status(1, 2, "a"), other])
    assert [(each["id"], each["in_flight"]) for each in found["backends"]] == [("a", 1)]
    assert found["models"][0]["versions"][0]["waiting"] == {"batch": 2}
