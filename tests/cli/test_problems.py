"""What `tidegate status` calls a problem, and what it does not."""

from typing import Any

import pytest

from gateway.cli.problems import notes, problems

BUDGET = {"left": 0.9, "words": "10 % of the 28-day budget is spent"}
UNJUDGED = {"left": None, "words": "3 of 3 missed so far"}


def found(**parts: Any) -> dict[str, Any]:
    """Return a status in which nothing is wrong, but for `parts`."""
    well = {
        "routes": {"sources": ["routes.yaml"], "loaded": True, "problems": []},
        "models": [{"name": "m", "versions": [version()]}],
        "backends": [backend()],
        "alerts": [],
        "objectives": [objective()],
        "rollouts": [],
    }
    return well | parts


def version(**more: Any) -> dict[str, Any]:
    waits = {"waiting": {"batch": 40}, "held_back": ["batch"]}
    return {"name": "v1", "served_model": "m", "pools": ["p"], "weight": 1.0, "instead": "", **waits} | more


def backend(**more: Any) -> dict[str, Any]:
    well = {
        "id": "p/a:1",
        "pool": "p",
        "state": "ready",
        "reason": "",
        "silent": False,
        "drained": False,
        "models": None,
    }
    return well | {"ejection": "in_service", "ejection_reason": ""} | more


def objective(**more: Any) -> dict[str, Any]:
    return {"model": "m", "objective": "o", "sli": "ttft", "budget": BUDGET, "alert": ""} | more


def server(**more: Any) -> dict[str, Any]:
    return {"where": "redis://r:6379/0", "leads": False, "not_saved": "", "shared": ""} | more


def failing(**more: Any) -> dict[str, Any]:
    return objective(sli="availability", bad_in_a_row=7, last_seconds=125.2) | more


FROM_ZERO = {"name": "p", "ejections_ignored": "", "scales_from_zero": True}


def lame(**more: Any) -> dict[str, Any]:
    return backend(failed_in_a_row=3, failed_seconds=125.2, good_seconds=None) | more


def alert(**more: Any) -> dict[str, Any]:
    words = {"summary": "availability of m", "description": "all of it failed", "since": "2026-01-02T03:04:05Z"}
    return {"severity": "page", "model": "m", "notified": "sent", **words} | more


def rollout(**more: Any) -> dict[str, Any]:
    versions = {"model": "m", "stable": "v1", "candidate": "v2", "weight": 5.0}
    return versions | {"phase": "paused", "reason": "no requests", "command": "tidegate canary promote m"} | more


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"backends": [backend(state="unknown")]},
        {"backends": [backend(), backend(id="p/b:1", drained=True, state="not_ready")]},
        {"backends": [backend(ejection="slow_start")]},
        {"backends": [backend(ejection="half_open")]},
        {"backends": [backend(state="not_ready")], "pools": [FROM_ZERO]},
        {"backends": [], "pools": [FROM_ZERO]},
        {"rollouts": [rollout(phase="step"), rollout(phase="rolled_back"), rollout(phase="waiting")]},
        {"objectives": [objective(budget=UNJUDGED)]},
        {"objectives": [failing(bad_in_a_row=4)]},
        {"objectives": [failing(sli="ttft")]},
        {"objectives": [failing(last_seconds=3601.0)]},
        {"objectives": [failing(bad_in_a_row=0, last_seconds=None)]},
        {"backends": [lame(failed_in_a_row=2)], "objectives": [failing(bad_in_a_row=0)]},
        {"backends": [lame(failed_seconds=3601.0)], "objectives": [failing(bad_in_a_row=0)]},
        {"backends": [lame(good_seconds=60.0)], "objectives": [failing(bad_in_a_row=0)]},
        {"backends": [lame(ejection="half_open", good_seconds=126.0)], "objectives": [failing(bad_in_a_row=0)]},
        {"backends": [lame()], "objectives": [failing(bad_in_a_row=3)]},
        {"backends": [lame()], "objectives": [failing(bad_in_a_row=0, last_seconds=None)]},
        {"backends": [lame()], "objectives": [failing(bad_in_a_row=0, model="another")]},
        {"backends": [lame(drained=True), backend(id="p/b:1")], "objectives": [failing(bad_in_a_row=0)]},
        {"state": {"where": "memory://", "leads": False, "not_saved": "", "shared": ""}},
        {"state": server(read_seconds=9.0)},
    ],
    ids=[
        "well",
        "not probed yet",
        "drained",
        "slow start",
        "half-open",
        "a pool at zero whose engine the routes name",
        "a pool at zero",
        "rollouts that go on or ended",
        "a budget not judged yet",
        "few failures",
        "late first tokens",
        "failures of long ago",
        "no requests",
        "few failed attempts at a backend",
        "failed attempts of long ago",
        "a good answer that another worker got",
        "failed attempts of one that is being tested",
        "one request that no backend can answer, sent three times",
        "failed attempts while no request was counted",
        "failed attempts while another model is answered",
        "failed attempts before it was drained",
        "a gateway that follows",
        "a gateway that has read lately",
    ],
)
def test_what_is_no_problem(parts: dict[str, Any]) -> None:
    assert problems(found(**parts)) == []


@pytest.mark.parametrize(
    ("parts", "what", "command"),
    [
        ({"alerts": [alert()]}, "page since 2026-01-02 03:04 UTC: availability of m. all of it", "tidegate slo m"),
        ({"backends": [backend(ejection="ejected", ejection_reason="5 failures")]}, "5 failures", "drain p/a:1"),
        ({"rollouts": [rollout()]}, "is paused at 5 %: no requests", "tidegate canary promote m"),
        (
            {"rollouts": [rollout(phase="step", failing="3 of 3 requests of v2 failed")]},
            "the rollout of m: 3 of 3 requests of v2 failed",
            "tidegate canary rollback m",
        ),
        ({"rollouts": [rollout(command="")]}, "rollout of m (v1 -> v2)", "tidegate canary resume m"),
        (
            {"objectives": [objective(budget={"left": -0.2, "words": "overspent by 20 %"})]},
            "ttft of m (o): overspent by 20 %",
            "tidegate slo m",
        ),
        (
            {"objectives": [failing(), objective()]},
            "the last 7 requests of m (o) all failed, the latest 2 min ago",
            "tidegate slo m",
        ),
        (
            {"backends": [backend(drained=True)], "pools": [FROM_ZERO]},
            "m/v1 has no ready backend",
            "tidegate undrain p/a:1",
        ),
        (
            {"backends": [backend(), backend(id="p/b:1", state="not_ready")], "pools": [FROM_ZERO]},
            "p/b:1 is not ready",
            "tidegate drain p/b:1",
        ),
        (
            {"backends": [lame()], "objectives": [failing(bad_in_a_row=1)]},
            "the last 3 attempts at p/a:1 all failed, the latest 2 min ago",
            "tidegate drain p/a:1",
        ),
        (
            {"backends": [lame(ejection="ejected", ejection_reason="5 failures")]},
            "p/a:1 is ejected: 5 failures",
            "tidegate drain p/a:1",
        ),
        (
            {"objectives": [failing(alert="page")], "alerts": [alert()]},
            "page since 2026-01-02 03:04 UTC: availability of m. all of it",
            "tidegate slo m",
        ),
        (
            {"routes": {"sources": ["routes.yaml"], "loaded": False, "problems": ["line 3: no"]}},
            "the route files were not applied, and the previous routes stay in use: line 3: no",
            "tidegate check routes.yaml",
        ),
        (
            {"state": {"not_saved": "the disk is full", "shared": ""}},
            "cannot be saved, and counts wait in memory: the disk",
            "free some space",
        ),
        (
            {"workers": [{"pid": 7, "problem": ""}, {"pid": 8, "problem": "no answer in 30 s"}]},
            "worker 8 goes on with old routes: no answer in 30 s",
            "kill 8",
        ),
        ({"upgrade": "failed: worker 9 ended"}, "the upgrade failed: worker 9 ended", "the gateway's log"),
        ({"state": {"not_saved": "", "shared": "another leads"}}, "another leads", "--state sqlite:///FILE"),
        (
            {"state": server(not_saved="redis://r:6379/0 does not answer in time", read_seconds=60.0)},
            "counts wait in memory; rollouts stand still: redis://r:6379/0 does not answer in time",
            "docs/fleet.md",
        ),
        (
            {"state": server(not_saved="it is full", leads=True)},
            "the state cannot be saved, and counts wait in memory: it is full",
            "requests go on",
        ),
        (
            {"state": server(not_saved="it was emptied", fleet={"recovering": True})},
            "the state was lost in redis://r:6379/0",
            "docs/fleet.md",
        ),
        (
            {"state": server(fleet={"clock_seconds": 7200.0})},
            "the time of this gateway is 2 h ahead of the server's",
            "restart the gateway",
        ),
        (
            {"state": server(fleet={"clock_seconds": -12.0})},
            "the time of this gateway is 12 s behind the server's",
            "restart the gateway",
        ),
        ({"state": server(read_seconds=12.0)}, "last read 12 s ago", "tidegate_fleet_save_duration_seconds"),
        (
            {"state": server(quotas={"problem": "no EVAL", "alone": True})},
            "tenants' limits are not shared with other machines: no EVAL",
            "docs/fleet.md",
        ),
        (
            {"state": {"where": "redis://h:1/0", "not_saved": "", "shared": "another leads"}},
            "another leads",
            "add ?prefix=NAME to --state",
        ),
    ],
)
def test_each_problem_names_what_helps(parts: dict[str, Any], what: str, command: str) -> None:
    (problem,) = problems(found(**parts))
    assert what in problem.what
    assert command in problem.command


@pytest.mark.parametrize("reason", ["could not be reached, and can be again", "was ejected: 5 failures in a row"])
def test_half_open_is_a_note_that_says_what_came_before(reason: str) -> None:
    (note,) = notes(found(backends=[backend(ejection="half_open", ejection_reason=reason)]))
    assert note == f"p/a:1 is being tested with one request at a time: it {reason}"
    drained = backend(ejection="half_open", drained=True)
    assert notes(found(backends=[drained, backend(ejection="half_open", state="not_ready")])) == []


def test_ejections_that_are_ignored_are_said_and_why() -> None:
    pools = [{"name": "p", "ejections_ignored": "2 of 2 backends are ejected"}, {"name": "q", "ejections_ignored": ""}]
    told = found(pools=pools, backends=[backend(ejection="ejected", ejection_reason="ttft burns")])
    (note,) = notes(told)
    assert note.startswith("ejections in pool p are ignored: 2 of 2 backends are ejected")
    (problem,) = problems(told)
    assert problem.what == "p/a:1 is ejected, but still gets requests: ttft burns"
    assert notes(found(pools=pools, backends=[backend(ejection="half_open")])) == [note], "it gets as many as others"


def test_no_load_is_blamed_where_the_backends_of_a_pool_are_down() -> None:
    pools = [{"name": "p", "ejections_ignored": "2 of 2 backends are ejected or not ready"}]
    told = found(pools=pools, backends=[backend(ejection="ejected", state="not_ready", reason="refused")])
    (note,) = notes(told)
    assert note == "ejections in pool p are ignored: 2 of 2 backends are ejected or not ready"
    assert not any("still gets" in problem.what for problem in problems(told))


def test_a_backend_that_is_not_ready_is_one_problem_and_a_model_without_any_another() -> None:
    lone, one = problems(found(backends=[backend(state="not_ready", reason="refused")]))
    assert lone.what == "m/v1 has no ready backend: its requests get 503"
    assert one.what == "p/a:1 is not ready: refused"
    assert lone.command == "tidegate doctor routes.yaml"
    (only,) = problems(found(backends=[backend(), backend(id="p/b:1", state="not_ready", reason="refused")]))
    assert only.what == "p/b:1 is not ready: refused"


def test_a_model_that_its_engine_serves_under_another_name_has_no_ready_backend() -> None:
    (lone,) = problems(found(backends=[backend(models=["qwen"])]))
    assert lone.what == (
        "m/v1 has no ready backend: its requests get 503; p/a:1 serves qwen, not m (see `served_model` in the routes)"
    )
    assert problems(found(backends=[backend(models=["qwen"]), backend(id="p/b:1", models=["m"])])) == []
    assert problems(found(backends=[backend(models=None)])) == [], "it does not tell"


def test_of_a_backend_that_was_found_the_gateway_tells_more_since_the_doctor_does_not_know_it() -> None:
    told = found(backends=[backend(state="not_ready", reason="refused")])
    told["discovery"] = [{"origin": "file t.json", "pools": ["p"], "problem": "", "targets": 1}]
    lone, one = problems(told)
    assert lone.command == "tidegate explain --model m"
    assert one.command == "tidegate explain --model m; to take it out of service: tidegate drain p/a:1"


def test_a_model_whose_backends_are_drained_needs_one_back() -> None:
    sick, well = backend(drained=True, state="not_ready"), backend(id="p/b:1", drained=True)
    (only,) = problems(found(backends=[sick, well]))
    assert only.what == "m/v1 has no ready backend: its requests get 503"
    assert only.command == "tidegate undrain p/b:1"


def test_what_becomes_of_the_requests_of_a_version_that_is_not_ready_is_true() -> None:
    down = backend(state="not_ready", reason="refused")
    second = version(name="v2", pools=["q"], weight=0.0)
    models = [{"name": "m", "versions": [version(), second]}]
    instead = [{"name": "m", "versions": [version(instead="v2"), second]}]

    def said(**parts: Any) -> str:
        return problems(found(**parts))[0].what

    well = backend(id="q/b:1", pool="q")
    assert said(models=instead, backends=[down, well]) == "m/v1 has no ready backend: its requests go to v2"
    assert said(models=models, backends=[down, well]).endswith("get 503")
    late = "m/v1 has no ready backend: its probes time out; requests are still sent"
    assert said(backends=[down | {"silent": True}]) == late
    assert said(backends=[down | {"silent": True, "drained": True}, down]).endswith("get 503")
    older = {name: value for name, value in down.items() if name != "silent"}
    assert said(backends=[older]) == "m/v1 has no ready backend"


def test_a_page_comes_before_a_ticket_and_explains_an_overspent_budget() -> None:
    spent = objective(budget={"left": -1.0, "words": "overspent"}, alert="page")
    first, second = problems(found(alerts=[alert(severity="ticket"), alert()], objectives=[spent]))
    assert (first.what[:4], second.what[:6]) == ("page", "ticket")


def test_an_alert_that_the_webhook_did_not_take_is_said() -> None:
    _, untold = problems(found(alerts=[alert(notified="failed")]))
    assert untold.what == "the alert webhook did not accept this alert"


def test_a_gateway_of_an_older_release_is_read_too() -> None:
    older = found()
    for name in ("alerts", "objectives", "rollouts"):
        del older[name]
    assert problems(older) == []
    assert notes(older) == []


def test_an_origin_that_cannot_be_asked_is_a_problem_and_what_leaves_is_none() -> None:
    origin = {"origin": "dns vllm.svc:8000", "pools": ["p"], "targets": 2, "problem": "no answer in 5 s"}
    (wrong,) = problems(found(discovery=[origin, origin | {"problem": ""}]))
    assert wrong.what == "dns vllm.svc:8000, for pool p: no answer in 5 s; its last 2 stay in use"
    (wrong,) = problems(found(discovery=[origin | {"targets": 0}]))
    assert wrong.what.endswith("no answer in 5 s; it has named no backend")
    gone = backend(state="not_ready", leaving=True)
    assert problems(found(backends=[gone, backend()])) == []
    (wrong,) = problems(found(backends=[gone]))
    assert wrong.what == "m/v1 has no ready backend: its requests get 503"
    assert wrong.command == "tidegate explain --model m", "the doctor does not ask backends that were found"


def pool(**more: Any) -> dict[str, Any]:
    return {"pool": "gpu", "unit": "pods", "target": 6, "awaits": None, "problem": "", "intent": 3} | more


def test_a_want_that_waits_for_a_person_is_one() -> None:
    (problem,) = problems(found(capacity=[pool(awaits=9), pool()]))
    assert problem.what == "pool gpu wants 9 pods, and more than 6 need approval"
    assert problem.command == "tidegate capacity approve gpu, or tidegate capacity reject gpu"


def test_a_want_that_is_not_known_any_more_is_one_and_one_that_never_was_is_none() -> None:
    unknown = {"target": None, "problem": "no gateway leads"}
    (problem,) = problems(found(capacity=[pool(**unknown), pool(**unknown, intent=0)]))
    assert problem.what == "it is not known how many pods pool gpu wants: no gateway leads"
