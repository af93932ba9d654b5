"""When an attempt in progress has taken too long."""

import pytest

from gateway.config.table import FIRST_TOKEN, LONGEST, STALL, Timeouts
from gateway.exchange import AttemptEnd, Exchange
from gateway.policy.admission.kinds import FEWEST_ANSWERS, Kind
from gateway.policy.routing import readiness
from gateway.policy.routing.health import Health
from gateway.proxy.deadlines import SHORTEST, TIMES, overdue, time_is_over
from gateway.proxy.retrying import blamed
from tests.attempts import attempted
from tests.proxy.routed import routed_to


class World:
    """An answer that was asked for at second 1000, of a backend that last answered somebody at `worked_at`.

    Its metrics last changed at `progressed`; a stream has `begun` at 1000, too.
    """

    def __init__(
        self,
        *,
        answers: int = 0,
        took: float = 0.0,
        worked_at: float = 0.0,
        progressed: float = 0.0,
        stream: bool = False,
        is_hurried: bool = False,
        begun: bool = False,
        **timeouts: float,
    ) -> None:
        kind = Kind()
        for _ in range(answers):
            kind.completed(took)
        self.routed, self.backend = routed_to("/v1/embeddings", kind, stream=stream, is_hurried=is_hurried)
        self.routed.model.timeouts = Timeouts(**timeouts)
        self.exchange = Exchange("id", "/v1/embeddings", 1000.0)
        self.exchange.attempts = [attempted(1000.0)]
        if begun:
            self.exchange.last_content = 1000.0
        self.backend.health.activity.worked_at, self.backend.engine.progressed = worked_at, progressed

    def after(self, seconds: float, *, answered: bool = False) -> tuple[AttemptEnd, str] | None:
        now = 1000.0 + seconds
        return overdue(self.routed, self.exchange, self.backend, resumed=0.0, now=now, answered=answered)


SILENCES = [
    (False, FIRST_TOKEN, AttemptEnd.FIRST_TOKEN_TIMEOUT, "no first token within {} s"),
    (True, STALL, AttemptEnd.STALLED, "no token for {} s"),
]
ENDINGS = [(begun, end, words) for begun, _, end, words in SILENCES]


@pytest.mark.parametrize(("begun", "usual", "end", "words"), SILENCES)
def test_a_stream_of_a_backend_that_is_silent_to_all_ends(
    begun: bool, usual: float, end: AttemptEnd, words: str
) -> None:
    world = World(stream=True, begun=begun)
    assert world.after(usual) is None
    assert world.after(usual + 0.1) == (end, words.format(f"{usual:g}"))
    for worked_at, progressed in ((1015.0, 0.0), (0.0, 1015.0)):
        world = World(stream=True, begun=begun, worked_at=worked_at, progressed=progressed)
        assert world.after(usual + 15.0) is None
        assert world.after(usual + 15.1) == (end, words.format(f"{usual:g}"))


@pytest.mark.parametrize(("begun", "end", "words"), ENDINGS)
def test_a_backend_that_works_may_be_silent_to_one_stream_for_long(begun: bool, end: AttemptEnd, words: str) -> None:
    world = World(stream=True, begun=begun, progressed=5000.0)
    assert world.after(LONGEST) is None
    assert world.after(LONGEST + 0.1) == (end, words.format(f"{LONGEST:g}"))


@pytest.mark.parametrize(("begun", "end", "words"), ENDINGS)
def test_a_stream_keeps_to_the_timeouts_in_the_routes(begun: bool, end: AttemptEnd, words: str) -> None:
    world = World(stream=True, begun=begun, progressed=5000.0, first_token=5.0, stall=5.0)
    assert world.after(5.0) is None
    assert world.after(5.1) == (end, words.format("5"))


def test_a_backend_that_answers_nobody_for_long_hangs() -> None:
    world = World(answers=FEWEST_ANSWERS, took=2.0)
    assert world.after(SHORTEST) is None
    late = world.after(SHORTEST + 1)
    assert late == (AttemptEnd.FIRST_TOKEN_TIMEOUT, "no answer to anyone for 61 s; the slowest of late took 2 s")


@pytest.mark.parametrize(
    "world",
    [
        World(answers=FEWEST_ANSWERS - 1, took=2.0),
        World(answers=FEWEST_ANSWERS, took=2.0, worked_at=1500.0),
        World(answers=FEWEST_ANSWERS, took=2.0, progressed=1500.0),
        World(answers=FEWEST_ANSWERS, took=120.0),
    ],
    ids=["little is known yet", "the backend answers others", "its metrics change", "such answers take long"],
)
def test_a_long_answer_alone_is_no_reason_to_give_it_up(world: World) -> None:
    assert world.after(550.0) is None


def test_an_answer_that_has_begun_is_not_late() -> None:
    assert World(answers=FEWEST_ANSWERS, took=2.0).after(500.0, answered=True) is None


def test_slow_answers_stretch_the_patience() -> None:
    world = World(answers=FEWEST_ANSWERS, took=30.0)
    assert world.after(30.0 * TIMES - 1) is None
    assert world.after(30.0 * TIMES + 1) is not None


def test_a_timeout_in_the_routes_holds_whatever_was_learnt() -> None:
    world = World(answers=0, took=0.0, worked_at=1004.0, first_byte=5.0)
    assert world.after(5.0) is None
    assert world.after(5.1) == (AttemptEnd.FIRST_TOKEN_TIMEOUT, "no answer within 5 s")


class Hurry:
    """Requests one after the other, to a backend whose clients give it so many seconds for each.

    Meanwhile each of its `peers` gives so many answers.
    """

    def __init__(
        self,
        seconds: float,
        *,
        stream: bool,
        answers: int = FEWEST_ANSWERS,
        took: float = 0.5,
        peers: tuple[float, ...] = (),
    ) -> None:
        self.world = World(answers=answers, took=took, stream=stream, is_hurried=True)
        self.seconds, self.now = seconds, 1000.0
        health = self.world.backend.health
        self.peers = [(Health(str(number), health.peers), share) for number, share in enumerate(peers)]
        health.peers.vitals.extend(peer for peer, _ in self.peers)
        if answers:
            self.world.backend.health.activity.began(999.0, took)

    def end(self) -> AttemptEnd:
        """Return how the next attempt ends."""
        world = self.world
        world.exchange.attempts = [attempted(self.now)]
        self.now += self.seconds
        for peer, share in self.peers:
            peer.activity.answers = int((self.now - 1000.0) / self.seconds * share)
        return time_is_over(world.routed, world.exchange, world.backend, resumed=0.0, now=self.now, answered=False)[0]

    def ends_after(self, seconds: float) -> set[AttemptEnd]:
        until = self.now + seconds
        ends: set[AttemptEnd] = set()
        while self.now < until:
            ends.add(self.end())
        return ends


OWN, BLAMED = AttemptEnd.CLIENT_TIMEOUT, AttemptEnd.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    ("stream", "limit", "peers"),
    [(True, FIRST_TOKEN, ()), (False, SHORTEST, (1.0,)), (False, SHORTEST, (2.0, 2.0, 0.0)), (False, LONGEST, ())],
    ids=["streams", "whole, its peer answers", "whole, its peers answer", "whole, nobody answers"],
)
def test_a_backend_that_answers_no_client_in_a_hurry_hangs_in_the_end(
    stream: bool, limit: float, peers: tuple[float, ...]
) -> None:
    hurry = Hurry(5.0, stream=stream, peers=peers)
    assert hurry.ends_after(limit) == {OWN}
    assert hurry.ends_after(30.0) == {BLAMED}
    hurry.world.backend.health.activity.worked_at = hurry.now
    assert hurry.ends_after(limit) == {OWN}


@pytest.mark.parametrize("stream", [True, False], ids=["streams", "whole"])
@pytest.mark.parametrize(
    ("seconds", "answers", "took"),
    [(0.3, FEWEST_ANSWERS, 0.01), (5.0, FEWEST_ANSWERS, 5.5), (5.0, 0, 0.0)],
    ids=["hardly any time", "less than it usually takes", "nothing is known of it"],
)
def test_clients_that_give_too_little_time_say_nothing_of_a_backend(
    stream: bool, seconds: float, answers: int, took: float
) -> None:
    assert Hurry(seconds, stream=stream, answers=answers, took=took).ends_after(600.0) == {OWN}


@pytest.mark.parametrize("peers", [(0.0,), (0.05,), (0.05, 0.05, 0.05)], ids=["none", "few", "few of each"])
def test_answers_that_become_longer_than_clients_wait_are_held_against_no_backend(peers: tuple[float, ...]) -> None:
    """Its peers give hardly any such answer either."""
    assert Hurry(5.0, stream=False, peers=peers).ends_after(LONGEST) == {OWN}


def test_a_limit_in_the_routes_needs_no_peers() -> None:
    hurry = Hurry(5.0, stream=False)
    hurry.world.routed.model.timeouts = Timeouts(first_byte=20.0)
    assert hurry.ends_after(20.0) == {OWN}
    assert hurry.ends_after(20.0) == {BLAMED}


def test_a_backend_that_works_for_others_does_not_hang() -> None:
    hurry = Hurry(5.0, stream=True)
    for _ in range(100):
        hurry.world.backend.engine.progressed = hurry.now + 1.0
        assert hurry.end() is OWN


def test_a_backend_that_fails_its_probes_is_blamed_at_once() -> None:
    hurry = Hurry(5.0, stream=True, answers=0)
    hurry.world.backend.learn(readiness.probe_failed(readiness.Readiness(), "no answer", silent=True))
    assert hurry.end() is BLAMED


def test_a_deadline_of_the_routes_that_has_passed_too_decides() -> None:
    hurry = Hurry(5.0, stream=True)
    hurry.world.routed.model.timeouts = Timeouts(first_token=4.95)
    assert hurry.end() is AttemptEnd.FIRST_TOKEN_TIMEOUT


def test_between_two_attempts_the_failure_before_is_told() -> None:
    world = World(stream=True, is_hurried=True)
    last = (*time_is_over(world.routed, world.exchange, None, resumed=0.0, now=2000.0, answered=False), None)
    failed, busy = (AttemptEnd.CLOSED_EARLY, "reset", None), (AttemptEnd.SATURATED, "status 429", None)
    assert last[0] is OWN
    assert blamed(failed, last, committed=False) == failed
    assert blamed(failed, last, committed=True) == last
    assert blamed(busy, last, committed=False) == last
    assert blamed(None, last, committed=False) == last
    assert blamed(failed, busy, committed=False) == busy
