"""How many replicas pools want: the gateway that leads decides and saves that, and all say it as long as it holds."""

from math import inf, nan
from pathlib import Path

import pytest

from gateway.control.capacity import RENEWED, SETTLED, CapacityRefused
from gateway.control.capacity_calls import CALLED, CALLS_FOR
from gateway.control.capacity_record import KIND, CapacityRecord
from gateway.policy.capacity.want import Rail, Rule
from gateway.state.store import WAKING, Document
from tests.control.capacity import Decisions, Site, routes


def shown(site: Site) -> list[CapacityRecord]:
    return [each.record for each in site.capacity if each.record is not None]


def test_a_want_is_shown_once_it_is_saved(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    assert site.target is None
    site.decisions.target = 3
    (document,) = site.look()
    assert (document.kind, document.name) == (KIND, "gpu")
    assert site.target == 3
    site.decisions.target = 4
    site.clock.advance(2.0)
    for _ in site.capacity.deciding():
        pass
    assert site.target == 3, "the others do not know of it yet"
    site.save()
    assert site.target == 4


def test_each_change_has_a_record_with_its_reason_and_what_it_follows_from(tmp_path: Path) -> None:
    site = Site(tmp_path, routes(unit="pods"))
    site.ready()
    site.look()
    site.look()
    site.decisions.target = 5
    site.look()
    assert list(site.records()) == [
        ("want", "2 pods: as the test says (load; arrivals 0)"),
        ("want", "2 -> 5 pods: as the test says (load; arrivals 0)"),
    ]
    found = site.capacity.get("gpu")
    assert found is not None
    assert found.record is not None
    assert (found.record.intent, found.record.since) == (2, site.clock())
    assert found.record.want.inputs == {"arrivals": 0.0, "odd": None}


def test_the_others_say_what_the_leader_decided_as_long_as_it_holds(tmp_path: Path) -> None:
    leader, other = Site(tmp_path, routes(), Decisions(4)), Site(tmp_path, routes())
    leader.ready()
    other.leads = False
    other.capacity.follow(leader.look())
    assert other.target == 4
    assert leader.look() == [], "nothing has changed"
    other.clock.advance(50.0)
    other.capacity.follow(leader.look(RENEWED))
    other.clock.advance(59.0)
    assert other.target == 4, "it was told again"
    other.clock.advance(1.0)
    assert other.target is None
    found = other.capacity.get("gpu")
    assert found is not None
    assert found.problem == "no gateway has said lately how many the pool wants"


def test_one_that_takes_over_goes_on_from_there(tmp_path: Path) -> None:
    leader, other = Site(tmp_path, routes(), Decisions(4)), Site(tmp_path, routes(), Decisions(4))
    leader.ready()
    other.leads = False
    other.capacity.follow(leader.look())
    other.leads = True
    other.ready()
    other.look()
    found = other.capacity.get("gpu")
    assert found is not None
    assert found.record is not None
    assert (found.record.intent, found.record.want.target) == (1, 4), "it is the same want"
    assert other.decisions.memories[0].target == 4
    assert list(other.records()) == []


def test_after_a_restart_it_decides_anew_from_what_it_knew(tmp_path: Path) -> None:
    before, after = Site(tmp_path, routes(), Decisions(7)), Site(tmp_path, routes(), Decisions(7))
    before.ready()
    after.capacity.restore(before.look())
    assert after.target is None, "how old that is nobody knows"
    after.ready(0)
    after.look()
    assert after.decisions.memories[0].target == 7
    assert after.target == 7


def test_one_that_loses_the_lead_forgets_what_was_not_saved(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    site.look()
    site.decisions.target = 9
    site.clock.advance(2.0)
    for _ in site.capacity.deciding():
        pass
    site.leads = False
    assert site.capacity.documents() == []
    site.capacity.undone()
    site.capacity.saved()
    assert site.target == 2


def test_a_first_want_waits_for_engines_that_start_together_with_the_gateway(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.look()
    assert site.decisions.loads == [], "not even probed"
    site.ready(0)
    site.look()
    assert site.decisions.loads == []
    site.look(SETTLED)
    assert [load.ready for load in site.decisions.loads] == [1]
    assert site.target == 2


def test_stale_signals_leave_the_want_until_it_holds_no_more(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    site.look()
    site.decisions.rule = Rule.STALE
    for _ in range(5):
        site.look(10.0)
        assert site.target == 2
    site.look(10.0)
    assert site.target is None


def test_above_the_limit_a_person_is_asked_once(tmp_path: Path) -> None:
    site = Site(tmp_path, routes(approve_above=6), Decisions(9))
    site.ready()
    site.look()
    site.look()
    found = site.capacity.get("gpu")
    assert found is not None
    assert found.record is not None
    assert (site.target, found.record.awaits) == (6, 9)
    assert [action for action, _ in site.records()] == ["want", "await approval"]
    woken = site.woken
    site.capacity.approve("gpu", actor="ann", reason="a launch")
    site.capacity.approve("gpu", actor="ann", reason="a launch")
    assert site.woken == woken + 1, "twice is once"
    assert list(site.records())[-1] == ("approve", "up to 9 replicas: a launch")
    site.look()
    assert site.target == 9
    site.capacity.approve("gpu", actor="ann", reason="again")
    site.decisions.target = 3
    site.look(400.0)
    site.decisions.target = 9
    site.look()
    assert site.target == 6, "the next crowd is asked about again"


def test_a_person_may_say_no_until_more_is_wanted(tmp_path: Path) -> None:
    site = Site(tmp_path, routes(approve_above=6), Decisions(8))
    site.ready()
    site.look()
    site.capacity.reject("gpu", actor="bob", reason="too dear")
    site.capacity.reject("gpu", actor="bob", reason="too dear")
    site.look()
    found = site.capacity.get("gpu")
    assert found is not None
    assert found.record is not None
    assert (site.target, found.record.awaits, found.record.rejected) == (6, None, 8)
    site.decisions.target = 10
    site.look()
    found = site.capacity.get("gpu")
    assert found is not None
    assert found.record is not None
    assert found.record.awaits == 10
    assert [action for action, _ in site.records()] == ["want", "await approval", "reject", "await approval"]


def test_what_cannot_be_approved_is_refused_with_the_reason(tmp_path: Path) -> None:
    site = Site(tmp_path, routes(approve_above=6))
    with pytest.raises(CapacityRefused, match="no gateway has said lately"):
        site.capacity.approve("gpu", actor="ann", reason="")
    site.ready()
    site.look()
    with pytest.raises(CapacityRefused, match="no want of this pool waits"):
        site.capacity.approve("gpu", actor="ann", reason="")
    with pytest.raises(CapacityRefused, match="none was approved"):
        site.capacity.reject("gpu", actor="ann", reason="")
    with pytest.raises(CapacityRefused, match="`max` of this pool is 10 replicas"):
        site.capacity.approve("gpu", actor="ann", reason="", replicas=11)
    with pytest.raises(KeyError):
        site.capacity.approve("cpu", actor="ann", reason="")
    site.leads = False
    with pytest.raises(CapacityRefused, match="another gateway leads now"):
        site.capacity.approve("gpu", actor="ann", reason="")


def test_what_costs_too_much_is_told_once(tmp_path: Path) -> None:
    site = Site(tmp_path, routes(max_cost_per_hour=10), Decisions(5))
    site.ready()
    site.decisions.rails = (Rail.COST,)
    site.look()
    site.look()
    assert [action for action, _ in site.records()] == ["want", "cost cap"]


def test_a_document_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.capacity.restore([Document(KIND, "gpu", body) for body in ("", "[]", "{}", '{"want": 1}')])
    site.capacity.follow([Document("rollout", "gpu", "{}")])
    assert site.target is None


def test_requests_that_wait_anywhere_want_the_first_replica(tmp_path: Path) -> None:
    leader, other = Site(tmp_path, routes(min=0), Decisions(0)), Site(tmp_path, routes(min=0))
    leader.ready(9)  # none
    leader.look()
    leader.look(SETTLED)
    other.leads = False
    other.capacity.follow(each.document(leader.clock(), leader.epoch()) for each in shown(leader))
    assert (leader.target, other.target) == (0, 0)
    other.waking = {"gpu"}
    assert other.target == 1, "it says so at once"
    (call,) = other.capacity.documents()
    assert (call.kind, call.name) == (WAKING, "gpu")
    assert other.capacity.documents() == [], "and tells the others every few seconds"
    leader.capacity.follow([call])
    leader.look()
    assert leader.decisions.loads[-1].queued == 1
    leader.look(CALLS_FOR)
    assert leader.decisions.loads[-1].queued == 0, "a call is over when it is not repeated"
    other.clock.advance(CALLED)
    assert len(other.capacity.documents()) == 1
    leader.waking = {"gpu"}
    leader.look()
    assert leader.decisions.loads[-1].queued == 1


@pytest.mark.parametrize("rails", [{"approve_above": 0}, {"max_cost_per_hour": 1}])
def test_requests_that_wait_get_no_replica_past_an_approval_or_the_cost_cap(
    tmp_path: Path, rails: dict[str, int]
) -> None:
    site = Site(tmp_path, routes(min=0, **rails), Decisions(0))
    site.ready(9)  # none
    site.look()
    site.look(SETTLED)
    site.waking = {"gpu"}
    assert site.target == 0
    if "approve_above" in rails:
        site.capacity.approve("gpu", actor="ann", reason="launch", replicas=1)
        site.look()
        assert site.target == 1


@pytest.mark.parametrize("body", ["", "[]", '{"at": "x"}', '{"at": 1.0}'])
def test_an_old_call_wakes_no_engine(tmp_path: Path, body: str) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    site.capacity.follow([Document(WAKING, "gpu", body)])
    site.look()
    assert site.decisions.loads[-1].queued == 0


@pytest.mark.parametrize("value", [nan, inf, -1.0])
def test_no_want_is_told_that_is_no_number(tmp_path: Path, value: float) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    site.look()
    site.decisions.target, site.decisions.value = 5, value
    site.look()
    found = site.capacity.get("gpu")
    assert found is not None
    assert found.want is not None
    assert (found.want.target, found.want.value) == (2, 2.0)


def test_a_want_that_cannot_be_written_keeps_nothing_else_from_being_saved(tmp_path: Path) -> None:
    site = Site(tmp_path, routes())
    site.ready()
    site.look()
    site.decisions.target, site.decisions.smoothed = 5, nan
    assert site.look() == []
    site.decisions.smoothed = 0.0
    assert len(site.look()) == 1
    assert site.target == 5


def asked(site: Site) -> list[int]:
    """Return the numbers of replicas that people were asked about."""
    return [int(reason.split()[0]) for action, reason in site.records() if action == "await approval"]


def want(site: Site, *targets: int, every: float = 1.0) -> None:
    for site.decisions.target in targets:
        site.look(every)


def test_a_question_is_asked_again_only_when_more_is_wanted_than_ever(tmp_path: Path) -> None:
    site = Site(tmp_path, routes(approve_above=4), Decisions(8))
    site.ready()
    want(site, 8, 7, 8, 4, 8, 6, 9, 8, 9)
    assert asked(site) == [8, 9]
    want(site, 7)
    (record,) = shown(site)
    assert record.awaits == 7, "what is shown is what waits now"


def test_a_question_is_asked_again_once_it_has_been_gone_for_a_cool_down(tmp_path: Path) -> None:
    site = Site(tmp_path, routes(approve_above=4, cool_down="300s"), Decisions(8))
    site.ready()
    want(site, 8, *[7] * 60, every=10.0)
    want(site, 8)
    assert asked(site) == [8], "it is still open after ten minutes"
    want(site, *[4] * 29, 8, every=10.0)
    assert asked(site) == [8], "it was gone for five minutes"
    want(site, *[4] * 30, 7, every=10.0)
    assert asked(site) == [8, 7]


def test_an_answer_ends_a_question(tmp_path: Path) -> None:
    site = Site(tmp_path, routes(approve_above=4), Decisions(8))
    site.ready()
    want(site, 8, 8)
    site.capacity.reject("gpu", actor="bob", reason="too dear")
    want(site, 8, 7, 4, 7, 7)
    assert asked(site) == [8, 7], "the want has fallen, so that the rejection is over"
    site.capacity.approve("gpu", actor="ann", reason="some", replicas=6)
    want(site, 7, 6, 7)
    assert asked(site) == [8, 7, 7]


def test_one_that_takes_over_knows_what_was_asked(tmp_path: Path) -> None:
    first, second = (Site(tmp_path, routes(approve_above=4), Decisions(8)) for _ in range(2))
    for site in (first, second):
        site.ready()
    want(first, 9, 8)
    second.capacity.follow(each.document(first.clock(), first.epoch()) for each in shown(first))
    want(second, 8, 9)
    assert asked(second) == []
    want(second, 10)
    assert asked(second) == [10]
