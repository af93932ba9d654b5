"""Rules pick the pools; the first that meets its objective gets the request; one that was left comes back by trials."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.routing.health import Health
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.routing.pools import (
    FIRST_PAUSE,
    GOOD_TRIALS,
    LONGEST_PAUSE,
    Need,
    Option,
    Outlook,
    PoolProbe,
    Waiting,
    by_cost,
    outlook,
    select,
)
from gateway.policy.routing.rules import ALWAYS, Rule, Span, Traits, When, first_match

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"


class Engine:
    def __init__(self, health: Health) -> None:
        self.health = health


def pool(name: str, *, ttft: float | None = None, tpot: float = 0.01, price: float | None = None) -> Option[Engine]:
    """A pool of two engines that have given a hundred first tokens after `ttft` each; None for no samples."""
    peers = PoolState(name, 0.0)
    peers.follow([f"{name}/a", f"{name}/b"])
    peers.cost_per_hour = price
    if ttft is not None:
        for fit, tokens, seconds in ((peers.latency.ttft, 10.0, ttft), (peers.latency.tpot, 0.0, tpot)):
            for _ in range(100):
                fit.observe(tokens, 0.0, seconds, seconds)
            fit.refit(0.0)
        for health in peers.members.values():
            health.latency.ttft.refit(0.0, lean_on=peers.latency.ttft)
            health.latency.tpot.refit(0.0, lean_on=peers.latency.tpot)
    return Option(peers, PoolProbe(), [Engine(health) for health in peers.members.values()])


outlooks = st.lists(
    st.builds(
        Outlook,
        pool=st.sampled_from("abcd"),
        ratio=st.floats(0.0, 5.0),
        meets=st.booleans(),
        out=st.booleans(),
        slot=st.booleans(),
        due=st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@given(outlooks)
def test_the_first_good_pool_wins_and_no_worse_one_is_preferred_to_an_earlier(rows: list[Outlook]) -> None:
    selection = select(rows)
    chosen = rows[selection.place]

    panic = all(row.out for row in rows)
    better = [i for i, row in enumerate(rows) if row.is_good(panic=panic) or (row.due and row.slot)]
    if better:
        assert selection.place == better[0]
        assert selection.trial == (not chosen.is_good(panic=panic))
    else:
        assert not selection.trial
        if selection.place and chosen.ratio > 1:
            assert max(rows[0].ratio, 1.0 if rows[0].out and not panic else 0.0) > chosen.ratio


def test_a_pool_is_left_when_it_burns_and_comes_back_by_three_good_trials() -> None:
    trials = PoolProbe()
    assert repr(trials) == "<PoolProbe in 0 good>"
    trials.leave(10.0)
    trials.leave(99.0)  # it has been left already
    assert not trials.is_due(9.0)
    assert trials.is_due(10.0)
    trials.begin()
    assert not trials.is_due(11.0), "one at a time"
    assert not trials.end(12.0, met=False, calm=True)
    assert not trials.is_due(12.0 + FIRST_PAUSE - 0.1)

    for at in range(GOOD_TRIALS):
        trials.begin()
        assert trials.end(20.0 + at, met=True, calm=True) is (at == GOOD_TRIALS - 1)
    assert not trials.out


def test_trials_that_say_nothing_or_come_while_it_burns_bring_nothing_back() -> None:
    trials = PoolProbe()
    trials.leave(0.0)
    for _ in range(2 * GOOD_TRIALS):
        trials.begin()
        assert not trials.end(1.0, met=None, calm=True)
        trials.begin()
        assert not trials.end(1.0, met=True, calm=False)
    assert trials.out


def test_trials_of_a_pool_that_stays_late_become_seldom() -> None:
    trials = PoolProbe()
    trials.leave(0.0)
    now, pauses = 0.0, []
    for _ in range(8):
        trials.begin()
        trials.end(now, met=False, calm=True)
        due = next(now + tenth / 10 for tenth in range(10_000) if trials.is_due(now + tenth / 10))
        pauses.append(due - now)
        now = due
    assert pauses == pytest.approx([5, 10, 20, 40, 60, 60, 60, 60], abs=0.11)
    assert pauses[-1] <= LONGEST_PAUSE + 0.11


def test_a_pool_of_which_nothing_is_known_is_asked() -> None:
    assert outlook(pool("cpu"), Need(10_000, ttft=0.1), 6.0, 100.0, Waiting(0, 1.0)).is_good()


def test_a_pool_is_held_against_the_objective_of_this_request() -> None:
    option = pool("cpu", ttft=0.4, tpot=0.06)
    option.peers.latency.learnt_at = 100.0

    assert outlook(option, Need(10, ttft=0.5, tpot=0.1), 6.0, 100.0, Waiting(0, 1.0)).is_good()
    assert not outlook(option, Need(10, ttft=0.3), 6.0, 100.0, Waiting(0, 1.0)).is_good()
    assert not outlook(option, Need(10, tpot=0.05), 6.0, 100.0, Waiting(0, 1.0)).is_good()
    assert outlook(option, Need(10, output=10.0, e2e=2.0), 6.0, 100.0, Waiting(0, 1.0)).is_good()
    assert not outlook(option, Need(10, output=100.0, e2e=2.0), 6.0, 100.0, Waiting(0, 1.0)).is_good()
    assert outlook(option, Need(10, output=inf), 6.0, 100.0, Waiting(0, 1.0)).is_good(), "nothing has a target"


def test_a_pool_that_is_predicted_to_miss_is_tried_once_nothing_is_known_of_it_any_more() -> None:
    option = pool("cpu", ttft=0.4)
    option.peers.latency.learnt_at = 100.0

    assert not outlook(option, Need(10, ttft=0.3), 6.0, 100.0 + FIRST_PAUSE - 0.1, Waiting(0, 1.0)).due
    seen = outlook(option, Need(10, ttft=0.3), 6.0, 100.0 + FIRST_PAUSE + 0.1, Waiting(0, 1.0))
    assert (seen.due, seen.out) == (True, False)
    assert select([seen, Outlook("gpu", 0.1)]).trial
    assert outlook(option, Need(10, ttft=0.5), 6.0, 200.0, Waiting(0, 1.0)).is_good(), "shorter ones go on"


def test_a_pool_that_burns_under_one_objective_stays_with_those_of_another() -> None:
    option = pool("cpu", ttft=0.1)
    option.peers.take_burns({"interactive": 6.0, "offline": 0.4})
    patient = Need(10, e2e=60.0, objective="offline")
    assert not outlook(option, patient, 6.0, 50.0, Waiting(0, 1.0)).out
    assert outlook(option, Need(10, ttft=0.5, objective="interactive"), 6.0, 50.0, Waiting(0, 1.0)).out


def test_a_pool_that_burns_is_left_for_one_that_does_not() -> None:
    cpu, gpu = pool("cpu", ttft=0.1), pool("gpu", ttft=0.1)
    cpu.peers.take_burns({"": 6.0})
    need = Need(10, ttft=0.5)
    rows = [outlook(option, need, 6.0, 50.0, Waiting(0, 1.0)) for option in (cpu, gpu)]
    assert select(rows).place == 1
    cpu.peers.take_burns({})
    rows = [outlook(option, need, 6.0, 51.0, Waiting(0, 1.0)) for option in (cpu, gpu)]
    assert select(rows).place == 1, "it has to show first that it is well"
    assert str(rows[0]) == "cpu predicted at 0.20 of its target, avoided until trials succeed"
    assert str(replace(rows[0], ratio=0.004)) == "cpu predicted at 0.004 of its target, avoided until trials succeed"
    assert str(replace(rows[0], ratio=0.0, known=False)) == "cpu not measured yet, avoided until trials succeed"


def test_a_full_pool_is_left_for_one_with_a_slot_unless_waiting_is_better() -> None:
    cpu, gpu = pool("cpu", ttft=0.1), pool("gpu", ttft=2.0)
    for engine in cpu.backends:
        engine.health.slots.limit = 0
        engine.health.slots.in_flight = 10
    need = Need(10, ttft=0.5)
    soon = [outlook(option, need, 6.0, 1.0, Waiting(0, 1.0)) for option in (cpu, gpu)]
    assert select(soon).place == 0, "a slot comes free in 50 ms, and the other pool would miss"
    behind = [outlook(option, need, 6.0, 1.0, Waiting(1000, 1.0)) for option in (cpu, gpu)]
    assert select(behind).place == 1, "a thousand wait for it"
    late = [outlook(option, need, 6.0, 1.0, Waiting(0, 100.0)) for option in (cpu, gpu)]
    assert select(late).place == 1
    assert "full" in str(late[0])


def test_where_all_have_been_left_the_load_is_to_blame_and_none_is() -> None:
    rows = [Outlook("cpu", 0.5, out=True, slot=False), Outlook("gpu", 0.9, out=True)]
    assert select(rows).place == 1
    assert not select(rows).trial


def test_a_prediction_is_trusted_as_far_as_it_has_been_right() -> None:
    sure, unsure = pool("cpu", ttft=0.4), pool("cpu", ttft=0.4)
    for option, seconds in ((sure, 0.4), (unsure, 0.8)):
        option.peers.latency.learnt_at = 100.0
        for engine in option.backends:
            for _ in range(10):
                engine.health.latency.ttft.judge(0.4, seconds)
            engine.health.latency.ttft.refit(0.0, lean_on=option.peers.latency.ttft)
    assert outlook(sure, Need(10, ttft=0.5), 6.0, 100.0, Waiting()).is_good()
    assert not outlook(unsure, Need(10, ttft=0.5), 6.0, 100.0, Waiting()).is_good()


def test_ejected_backends_say_nothing_of_their_pool_while_others_are_open() -> None:
    option = pool("cpu", ttft=0.1)
    slow, well = option.backends
    slow.health.backoff.hold_until = 100.0
    for _ in range(1000):
        slow.health.latency.ttft.observe(10.0, 0.0, 9.0, 9.0)
    slow.health.latency.ttft.refit(0.0)
    assert outlook(option, Need(10, ttft=0.5), 6.0, 1.0, Waiting(0, 1.0)).is_good()
    well.health.backoff.hold_until = 100.0
    assert outlook(option, Need(10, ttft=0.5), 6.0, 1.0, Waiting(0, 1.0)).is_good(), "all are out: then all are asked"
    slow.health.backoff.closed_until = well.health.backoff.closed_until = 100.0
    seen = outlook(option, Need(10, ttft=0.5), 6.0, 1.0, Waiting(0, 1.0))
    assert not seen.is_good(), "all are busy: then none is"


def test_the_cheapest_pool_comes_first_where_all_have_a_price() -> None:
    gpu, cpu = pool("gpu", ttft=0.02, price=2.5), pool("cpu", ttft=0.1, price=0.2)
    need = Need(10, output=20.0)
    assert by_cost([gpu, cpu], need) == [cpu, gpu]
    for engine in cpu.backends:
        engine.health.slots.limit = 4  # few slots make each dear
    assert by_cost([gpu, cpu], need) == [gpu, cpu]
    assert by_cost([cpu, gpu, pool("other", ttft=0.1)], need)[0] is cpu


def test_a_pool_that_is_well_again_forgets_that_it_was_slow() -> None:
    option = pool("cpu", ttft=9.0)
    assert option.peers.latency.is_known
    option.peers.forget()
    assert not option.peers.latency.is_known
    assert option.backends[0].health.predicted_tpot() == 0.0


@pytest.mark.parametrize(
    ("when", "traits", "meant"),
    [
        (ALWAYS, Traits(CHAT, 10), True),
        (When(endpoints=frozenset({EMBEDDINGS})), Traits(EMBEDDINGS, 10), True),
        (When(endpoints=frozenset({EMBEDDINGS})), Traits(CHAT, 10), False),
        (When(prompt_tokens=Span(most=255)), Traits(CHAT, 255), True),
        (When(prompt_tokens=Span(most=255)), Traits(CHAT, 256), False),
        (When(max_tokens=Span(most=64)), Traits(CHAT, 10, 64), True),
        (When(max_tokens=Span(most=64)), Traits(CHAT, 10), False),
        (When(max_tokens=Span(least=65)), Traits(CHAT, 10), True),
        (When(classes=frozenset({"batch"})), Traits(CHAT, 10, service_class="batch"), True),
        (When(classes=frozenset({"batch"})), Traits(CHAT, 10, service_class="standard"), False),
        (When(tenants=frozenset({"acme"})), Traits(CHAT, 10, tenant="acme"), True),
        (When(tenants=frozenset({"acme"})), Traits(CHAT, 10), False),
        (When(tools=True), Traits(CHAT, 10, tools=True), True),
        (When(tools=False), Traits(CHAT, 10, tools=True), False),
        (When(images=True), Traits(CHAT, 10), False),
        (When(images=False, prompt_tokens=Span(least=5)), Traits(CHAT, 10), True),
    ],
)
def test_a_rule_holds_when_all_its_conditions_do(when: When, traits: Traits, meant: bool) -> None:
    assert when.matches(traits) is meant
    assert first_match([Rule(("a",), when), Rule(("b",))], traits) == (0 if meant else 1)
    assert first_match([Rule(("a",), when)], traits) == (0 if meant else 1)
