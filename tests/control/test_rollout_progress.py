"""One model's rollout: what it has seen, how requests follow it, and what is kept of it over a restart."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.control.rollout_progress import KEYS, KIND, RolloutProgress, changes
from gateway.exchange import Exchange, Outcome
from gateway.policy.canary.evidence import AVAILABILITY, FIRST
from gateway.policy.canary.plan import Plan
from gateway.policy.canary.rollout import Phase, Rollout
from gateway.policy.slo.objective import DEFAULT
from gateway.proxy.live import LiveModel
from tests.control.tables import in_force, versions, written

NOW = 1_700_000_000.0
PLAN = Plan("v1", "v2", (5.0, 95.0), warm_up=0, warm_up_time=0.0)
STEP = Rollout(Phase.STEP, 0, NOW, NOW, share=5.0)


def running(rollout: Rollout = STEP, plan: Plan = PLAN) -> RolloutProgress:
    """Return the rollout of a model that is held to the usual objective."""
    return RolloutProgress("m", plan, [DEFAULT], rollout)


def exchange(outcome: Outcome = Outcome.OK, version: str = "v2", **more: Any) -> Exchange:
    """Return a request that has ended."""
    made = Exchange("r1", "/v1/chat/completions", 0.0)
    made.outcome, made.version, made.backend = outcome, version, "gpu/a:1"
    for name, value in more.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def live(tmp_path: Path) -> LiveModel:
    """Return a model whose two versions may both serve."""
    return in_force(written(tmp_path / "routes.yaml", versions("http://a:1", "http://b:1"))).table.model("m")


class TestFailing:
    def test_a_candidate_fails_when_so_many_requests_in_a_row_have_failed(self, live: LiveModel) -> None:
        rollout = running()
        ends = [rollout.ended(exchange(Outcome.BACKEND_ERROR)) for _ in range(FIRST + 1)]
        assert ends == [False] * (FIRST - 1) + [True, False], "which is told once"
        assert rollout.fails
        assert rollout.failing_beside(live.versions["v1"]) == f"its latest {FIRST + 1} requests all failed"

    def test_one_answer_ends_that(self) -> None:
        rollout = running()
        for _ in range(FIRST):
            rollout.ended(exchange(Outcome.TIMEOUT))
        assert rollout.ended(exchange())
        assert not rollout.fails

    @pytest.mark.parametrize(
        "other",
        [exchange(Outcome.BACKEND_ERROR, "v1"), exchange(Outcome.BACKEND_ERROR, forced=True), exchange(Outcome.QUOTA)],
        ids=["stable's", "forced", "refused"],
    )
    def test_what_says_nothing_about_the_candidate_does_not_count(self, other: Exchange) -> None:
        rollout = running()
        for _ in range(2 * FIRST):
            rollout.ended(other)
        assert not rollout.fails


class TestRequests:
    def test_they_are_split_by_the_share(self, live: LiveModel) -> None:
        running().apply(live)
        assert {version.name: share for version, share in live.traffic.split.shares()} == pytest.approx(
            {"v1": 0.95, "v2": 0.05}
        )
        assert (live.traffic.mirror, live.traffic.failing) == (None, None)

    def test_a_failing_candidate_is_known_to_the_data_path(self, live: LiveModel) -> None:
        rollout = running()
        for _ in range(FIRST):
            rollout.ended(exchange(Outcome.BACKEND_ERROR))
        rollout.apply(live)
        assert live.traffic.failing is live.versions["v2"]

    def test_in_the_first_step_they_are_mirrored_where_the_plan_says_so(self, live: LiveModel) -> None:
        running(replace(STEP, step=-1, share=0.0), replace(PLAN, mirror=10.0)).apply(live)
        assert live.traffic.mirror is not None
        assert (live.traffic.mirror.version, live.traffic.mirror.share) == (live.versions["v2"], 0.1)


class TestEvidence:
    def test_each_request_counts_for_its_version(self) -> None:
        rollout = running()
        rollout.weigh({AVAILABILITY: True}, exchange(), NOW, settled=False)
        rollout.weigh({AVAILABILITY: True}, exchange(version="v1"), NOW, settled=False)
        assert rollout.evidence.answered == 1

    def test_the_latency_of_a_cold_backend_is_left_out(self) -> None:
        rollout = running(plan=replace(PLAN, warm_up=2))
        rollout.weigh({AVAILABILITY: True, "ttft": False}, exchange(), NOW, settled=True)
        assert rollout.cold == 1
        for _ in range(2):
            rollout.warmth.answered("gpu/a:1", NOW)
        rollout.weigh({AVAILABILITY: True, "ttft": True}, exchange(), NOW + 1.0, settled=True)
        assert rollout.cold == 1

    def test_a_new_step_starts_a_new_comparison_when_it_is_told_to(self) -> None:
        rollout = running()
        rollout.weigh({AVAILABILITY: True}, exchange(), NOW, settled=True)
        rollout.begin({})
        assert (rollout.evidence.answered, rollout.cold, rollout.failed) == (0, 0, 0)


def test_a_step_does_not_last_while_there_is_nothing_to_compare_with() -> None:
    rollout = running()
    for second, ready in ((10.0, True), (15.0, False), (20.0, False), (30.0, True)):
        rollout.look(NOW + second, stable_ready=ready)
    assert rollout.away == 10.0
    rollout.moved_to(replace(STEP, step=1, share=95.0, since=NOW + 40.0))
    assert rollout.away == 0.0
    assert [each.share for each in rollout.history] == [5.0, 95.0]


class TestRestarts:
    def seen(self) -> RolloutProgress:
        """Return a rollout that has seen something."""
        rollout = running()
        for version in ("v1", "v2", "v2"):
            rollout.weigh({AVAILABILITY: True}, exchange(version=version, sticky=b"user"), NOW, settled=True)
        rollout.moved_to(replace(STEP, step=1, share=95.0, since=NOW + 60.0))
        return rollout

    def test_it_goes_on_where_it_stood(self) -> None:
        before, after = self.seen(), running()
        document = before.document()
        assert (document.kind, document.name) == (KIND, "m")
        after.restore(json.loads(document.body), NOW + 100.0)
        assert after.rollout == before.rollout
        assert list(after.history) == list(before.history)
        assert after.evidence.answered == before.evidence.answered
        assert after.goes_on_from(json.loads(document.body))

    def test_what_has_seen_less_does_not_go_on_from_it(self) -> None:
        body = json.loads(self.seen().document().body)
        assert not running().goes_on_from(body)

    def test_no_time_lies_ahead(self) -> None:
        after = running()
        after.restore(json.loads(self.seen().document().body), NOW + 10.0)
        assert after.rollout.since == NOW + 10.0

    @pytest.mark.parametrize("change", [{"share": 120.0}, {"phase": "sideways"}, {"another": 1}])
    def test_what_is_no_rollout_is_refused(self, change: dict[str, Any]) -> None:
        body = json.loads(self.seen().document().body)
        body["rollout"] |= change
        with pytest.raises((KeyError, TypeError, ValueError, IndexError)):
            running().restore(body, NOW + 100.0)

    def test_keys_are_large_and_kept_less_often(self) -> None:
        rollout = self.seen()
        kinds = [[each.kind for each in rollout.documents(NOW + seconds)] for seconds in (1.0, 31.0, 32.0)]
        assert kinds == [[KIND], [KIND, KEYS], [KIND]]


def test_another_plan_for_the_same_candidate_takes_over_what_was_seen() -> None:
    before = running()
    before.weigh({AVAILABILITY: True}, exchange(), NOW, settled=True)
    after = running(Rollout(), replace(PLAN, hold=1.0))
    after.take_over(before)
    assert after.rollout == STEP
    assert after.evidence is before.evidence
    assert after.warmth is before.warmth


def test_changes_of_a_plan_are_told_in_the_words_of_route_files() -> None:
    new = replace(PLAN, hold=60.0, steps=(), manual=True)
    assert changes(PLAN, new) == "steps: 5, 95 -> auto; hold: 10m -> 1m; start: auto -> manual"
    assert changes(PLAN, PLAN) == ""


def test_it_tells_where_it_stands() -> None:
    assert repr(cast(object, running())).startswith("<RolloutProgress m step 5 % ")
