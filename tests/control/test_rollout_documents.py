"""Gateways that share a store lead one rollout between them: it steps once at a time, forward, and stands alike."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.cli.demo.load import MODEL
from gateway.config.load import load_routes
from gateway.control.persistence import LEASE_SECONDS, Flusher, PersistedState
from gateway.control.rollouts import KIND, RolloutProgress
from gateway.exchange import Exchange, Outcome
from gateway.policy.canary.rollout import Event, Phase, Refused, Rollout
from gateway.state.store import Batch, Ejection, Reply, StateError, Store
from tests.attempts import attempted
from tests.control.rollouts import newcomers, rolled
from tests.state.engines import Engine, Make, RedisEngine, engines

START = 1_000_000.0
STEP = 10.0


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    with engines(request.param, tmp_path_factory) as made:
        yield made


def stepping() -> dict[str, Any]:
    """Return routes whose rollout goes on by itself each ten seconds."""
    routes = newcomers()
    canary = {"steps": [5, 25, 50, 75], "hold": "10s", "last_hold": "10s", "max_hold": "10s", "on_stall": "promote"}
    routes["models"][MODEL]["canary"] |= canary
    return routes


class Shaky:
    """A store that is away, or between whose answer to the lease and the batch time passes, when told so."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = self.loses = self.remote = False
        self.meanwhile: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def lead(self, owner: str, now: float, seconds: float) -> int:
        if self.away:
            raise StateError("the store is away")
        return self._store.lead(owner, now, seconds)

    def save(self, batch: Batch) -> Reply:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        reply = self._store.save(batch)
        if self.loses:
            raise StateError("the answer got lost")
        return reply


class Gateway:
    """The real controller and the real flusher, on a clock that all gateways share."""

    def __init__(self, engine: Engine, folder: Path, now: list[float], runner: asyncio.Runner) -> None:
        self.store = Shaky(engine.open())
        self.store.remote = True
        self._runner = runner
        routes = stepping()
        path = folder / "routes.yaml"
        self.rollouts, self.audit = rolled(
            path, routes, now, leads=lambda: self.flusher.leads, alone=lambda: self.flusher.alone
        )
        table = load_routes(path)
        self.flusher = Flusher(
            self.store,
            list,
            list[Ejection],
            lambda: now[0],
            persisted=PersistedState(
                self.rollouts.documents,
                self.audit.unsaved,
                taken_over=lambda documents: self.rollouts.taken_over(documents, table),
                undone=lambda documents: self.rollouts.undone(documents, table),
                followed=lambda documents: self.rollouts.led(documents, table),
            ),
        )
        self.flusher.loaded(self.store.load(now[0]))
        self.flusher.lead()

    @property
    def running(self) -> RolloutProgress:
        running = self.rollouts.get(MODEL)
        assert running is not None
        return running

    @property
    def rollout(self) -> Rollout:
        return self.running.rollout

    @property
    def split(self) -> Any:
        """The shares that requests get now."""
        traffic: Any = self.rollouts._current.table.model(MODEL).traffic
        return dict(traffic)

    def flush(self, *, away: bool = False, loses: bool = False) -> None:
        self.store.away, self.store.loses = away, loses
        self._runner.run(self.flusher.flush())

    def fails(self, times: int, now: float) -> None:
        """Let the candidate fail so many requests, beside good ones of stable."""
        for _ in range(times):
            for version, outcome in (("v1", Outcome.OK), ("v2", Outcome.BACKEND_ERROR)):
                exchange = Exchange("r", "/v1/chat/completions", now - 1.0)
                exchange.model, exchange.version, exchange.backend, exchange.outcome = MODEL, version, version, outcome
                exchange.attempts, exchange.ended = [attempted()], now
                exchange.client_status = 200 if outcome is Outcome.OK else 502
                self.rollouts.weigh_settled(exchange)


class Pair:
    """Two gateways on one store, and the time."""

    def __init__(self, engine: Engine, folder: Path, runner: asyncio.Runner) -> None:
        self.engine = engine
        self.now = [START]
        self.both = [Gateway(engine, folder, self.now, runner) for _ in range(2)]
        self._renewed = START
        self._fell = False

    def passes(self, seconds: float) -> None:
        self.now[0] += seconds
        if self.now[0] - self._renewed >= LEASE_SECONDS and isinstance(self.engine, RedisEngine):
            self.engine.end_lease()

    def flush(self, which: int, *, away: bool = False, loses: bool = False) -> None:
        gateway = self.both[which]
        gateway.flush(away=away, loses=loses)
        if gateway.flusher.token and not away:
            self._renewed = self.now[0]
        follows = not (away or loses or gateway.flusher.failing or gateway.flusher.token)
        if follows and gateway.rollout.phase is not Phase.ROLLED_BACK and not self._fell:
            assert where(gateway.rollout) == where(self.stored()), "it stands where the leader's does"

    def stored(self) -> Rollout:
        """Return where the rollout stands, as the store has it."""
        return self._stored()[-1]

    def _stored(self) -> list[Rollout]:
        (document,) = (each for each in self.engine.open().load(self.now[0]).documents if each.kind == KIND)
        return [Rollout(**{**each, "phase": Phase(each["phase"])}) for each in json.loads(document.body)["history"]]

    def settle(self) -> None:
        """Let both read what the other has written, and nothing else happen."""
        for _ in range(5):
            for which in range(2):
                self.flush(which)
        self._fell = False

    def falls_back(self, copy: object) -> None:
        """Let the store lose what came after a copy of it."""
        self.engine.put_back(copy)
        self._fell = True

    def check(self) -> list[tuple[Phase, float]]:
        """Both have one history, which the store has too; return it."""
        one, two = ([where(each) for each in gateway.running.history] for gateway in self.both)
        assert one == two == [where(each) for each in self._stored()]
        shares = [share for _, share in one]
        assert (len(set(one)), shares) == (len(one), sorted(shares)), "a step was taken twice, or backwards"
        splits = [gateway.split for gateway in self.both]
        assert splits[0] == splits[1] == {"v1": 100.0 - one[-1][1], "v2": one[-1][1]}
        return one


def where(rollout: Rollout) -> tuple[Phase, float]:
    return rollout.phase, rollout.share


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@pytest.fixture
def pair(make: Make, tmp_path: Path, runner: asyncio.Runner) -> Pair:
    pair = Pair(make(), tmp_path, runner)
    for _ in range(3):
        pair.both[0].rollouts.tick()
        pair.settle()
    assert where(pair.stored()) == (Phase.STEP, 5.0)
    return pair


happenings = st.lists(
    st.tuples(
        st.sampled_from(["tick", "tick", "flush", "flush", "flush", "away", "lose", "copy", "fall-back"]),
        st.integers(0, 1),
        st.sampled_from([0.0, 1.0, STEP]),
    ),
    max_size=40,
)


@given(happenings)
@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
def test_whatever_happens_both_have_one_history_in_which_each_step_comes_once(
    make: Make, tmp_path_factory: pytest.TempPathFactory, happenings: list[tuple[str, int, float]]
) -> None:
    """One that is not ticked and not flushed is paused; what the store falls back to is a copy of earlier."""
    with asyncio.Runner() as runner:
        pair = Pair(make(), tmp_path_factory.mktemp("routes"), runner)
        pair.settle()
        copy: object = None
        for what, which, seconds in happenings:
            pair.passes(seconds)
            if what == "tick":
                pair.both[which].rollouts.tick()
            elif what == "copy":
                copy = pair.engine.copy()
            elif what == "fall-back" and copy is not None:
                least = min(gateway.rollout.share for gateway in pair.both)
                pair.falls_back(copy)
                pair.settle()
                assert pair.stored().share >= least
            elif what != "fall-back":
                pair.flush(which, away=what == "away", loses=what == "lose")
        pair.settle()
        pair.check()


def test_a_leader_that_is_paused_before_its_step_is_saved_takes_it_back(pair: Pair) -> None:
    first, second = pair.both
    pair.passes(STEP)
    first.flush()
    first.rollouts.tick()
    assert where(first.rollout) == (Phase.STEP, 25.0)
    pair.passes(7.0)  # it is paused
    pair.flush(1)
    pair.flush(1)
    assert second.flusher.leads
    pair.flush(0)
    assert not first.flusher.leads
    assert where(first.rollout) == (Phase.STEP, 5.0)
    assert first.split == {"v1": 95.0, "v2": 5.0}
    assert [each.action for each in first.audit][-2:] == ["advance", "undo"]
    second.rollouts.tick()
    pair.settle()
    assert pair.check()[-1] == (Phase.STEP, 25.0)


def test_a_leader_that_is_paused_between_its_lease_and_its_batch_takes_its_step_back(pair: Pair) -> None:
    first, second = pair.both
    pair.passes(STEP)
    first.flush()
    first.rollouts.tick()

    def paused() -> None:
        pair.passes(7.0)
        assert second.store.lead(second.flusher.incarnation, pair.now[0], LEASE_SECONDS)

    first.store.meanwhile = paused
    first.flush()
    assert not first.flusher.leads
    assert where(first.rollout) == where(pair.stored()) == (Phase.STEP, 5.0)
    pair.flush(1)
    second.rollouts.tick()
    pair.settle()
    assert pair.check()[-1] == (Phase.STEP, 25.0)


def test_a_store_that_falls_behind_gets_the_step_again_and_no_one_steps_back(pair: Pair) -> None:
    copy = pair.engine.copy()
    pair.passes(1.0)
    pair.settle()
    first, _ = pair.both
    pair.passes(STEP)
    first.flush()
    first.rollouts.tick()
    pair.settle()
    pair.falls_back(copy)
    assert where(pair.stored()) == (Phase.STEP, 5.0)
    pair.settle()
    assert pair.check()[-1] == (Phase.STEP, 25.0)


def test_a_step_whose_answer_got_lost_stays_the_only_one(pair: Pair) -> None:
    first, _ = pair.both
    pair.passes(STEP)
    first.flush()
    first.rollouts.tick()
    first.flush(loses=True)
    pair.passes(7.0)
    pair.flush(1)
    pair.settle()
    assert pair.check()[-1] == (Phase.STEP, 25.0)


@pytest.mark.parametrize("which", [0, 1], ids=["by the leader", "by another"])
def test_a_rollback_waits_for_no_store_and_holds_for_all_once_it_is_back(pair: Pair, which: int) -> None:
    """It beats what the one that leads meanwhile has decided."""
    here, there = pair.both[which], pair.both[1 - which]
    pair.passes(LEASE_SECONDS + 1.0)
    here.flush(away=True)
    assert here.flusher.alone
    assert not here.flusher.leads
    here.fails(300, pair.now[0])
    here.rollouts.tick()
    assert here.rollout.phase is Phase.ROLLED_BACK, here.running.decision
    assert here.split == {"v1": 100.0, "v2": 0.0}
    pair.passes(STEP)
    for _ in range(2):  # the other one reaches the store, leads, and steps
        there.flush()
        there.rollouts.tick()
    there.flush()
    assert where(pair.stored()) == (Phase.STEP, 25.0)
    here.flush()
    assert here.rollout.phase is Phase.ROLLED_BACK
    pair.settle()
    assert where(there.rollout) == where(here.rollout) == where(pair.stored()) == (Phase.ROLLED_BACK, 0.0)
    assert there.split == {"v1": 100.0, "v2": 0.0}
    assert there.rollout.reason == here.rollout.reason
    assert [each.action for gateway in pair.both for each in gateway.audit].count("rollback") == 1
    leader = there if there.flusher.leads else here
    leader.rollouts.ask(MODEL, Event.START, actor="ann", reason="mended")
    pair.settle()
    assert there.rollout.phase is here.rollout.phase is not Phase.ROLLED_BACK, "a new start is another rollout"


def test_a_person_may_roll_back_while_the_store_is_away_and_do_nothing_else(pair: Pair) -> None:
    _, other = pair.both
    with pytest.raises(Refused):
        other.rollouts.ask(MODEL, Event.ROLLBACK, actor="ann", reason="bad answers")
    pair.passes(LEASE_SECONDS + 1.0)
    other.flush(away=True)
    with pytest.raises(Refused):
        other.rollouts.ask(MODEL, Event.PROMOTE, actor="ann", reason="good answers")
    other.rollouts.ask(MODEL, Event.ROLLBACK, actor="ann", reason="bad answers")
    assert other.split == {"v1": 100.0, "v2": 0.0}
    pair.settle()
    assert [where(gateway.rollout) for gateway in pair.both] == [(Phase.ROLLED_BACK, 0.0)] * 2
    assert {gateway.rollout.actor for gateway in pair.both} == {"ann"}


def test_one_that_is_alone_rolls_nothing_back_that_does_well(pair: Pair) -> None:
    here, _ = pair.both
    pair.passes(LEASE_SECONDS + 1.0)
    here.flush(away=True)
    for _ in range(5):
        pair.passes(STEP)
        here.rollouts.tick()
    assert where(here.rollout) == (Phase.STEP, 5.0), "and takes no step"
