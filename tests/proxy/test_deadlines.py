"""When an attempt in progress has taken too long."""

import pytest

from gateway.config.table import FIRST_TOKEN, LONGEST, STALL, Timeouts
from gateway.exchange import AttemptEnd, Exchange
from gateway.policy.admission.kinds import FEWEST_ANSWERS, Kind
from gateway.proxy.deadlines import SHORTEST, TIMES, overdue
from tests.proxy.orders import ordered


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
        begun: bool = False,
        **timeouts: float,
    ) -> None:
        kind = Kind()
        for _ in range(answers):
            kind.completed(took)
        self.order, self.backend = ordered("/v1/embeddings")
        self.order.stream, self.order.timeouts, self.order.kind = stream, Timeouts(**timeouts), kind
        self.exchange = Exchange("id", "/v1/embeddings", 1000.0)
        self.exchange.sent = 1000.0
        if begun:
            self.exchange.last_content = 1000.0
        self.backend.health.activity.worked_at, self.backend.progressed = worked_at, progressed

    def after(self, seconds: float, *, answered: bool = False) -> tuple[AttemptEnd, str] | None:
        now = 1000.0 + seconds
        return overdue(self.order, self.exchange, self.backend, resumed=0.0, now=now, answered=answered)


SILENCES = [
    (False, FIRST_TOKEN, AttemptEnd.FIRST_TOKEN_TIMEOUT, "no first token within {} s"),
    (True, STALL, AttemptEnd.STALLED, "no token for {} s"),
]


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


@pytest.mark.parametrize(("begun", "usual", "end", "words"), SILENCES)
def test_a_backend_that_works_may_be_silent_to_one_stream_for_long(
    begun: bool, usual: float, end: AttemptEnd, words: str
) -> None:
    world = World(stream=True, begun=begun, progressed=5000.0)
    assert world.after(LONGEST) is None
    assert world.after(LONGEST + 0.1) == (end, words.format(f"{LONGEST:g}"))


@pytest.mark.parametrize(("begun", "usual", "end", "words"), SILENCES)
def test_a_stream_keeps_to_the_timeouts_in_the_routes(begun: bool, usual: float, end: AttemptEnd, words: str) -> None:
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
