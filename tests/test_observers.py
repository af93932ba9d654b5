import logging

import pytest

from gateway.backends.backend import Backend
from gateway.config.table import BackendSpec
from gateway.exchange import AttemptEnd, Exchange
from gateway.observers import BATCH, Observer, Observers
from tests.backends.made import live_backend
from tests.observing import Raising

BACKEND = live_backend(BackendSpec("gpu", "http://e:1", "e", 1))
EVENTS = ["attempt_ended", "retried", "first_token", "settled"]


class Keeping(Observer):
    def __init__(self) -> None:
        self.told: list[str] = []

    def on_attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        self.told.append("attempt_ended")

    def on_retried(self, exchange: Exchange, end: AttemptEnd) -> None:
        self.told.append("retried")

    def on_first_token(self, exchange: Exchange) -> None:
        self.told.append("first_token")

    def on_settled(self, exchange: Exchange) -> None:
        self.told.append("settled")


def made() -> Exchange:
    return Exchange("r", "/v1/chat/completions", 1.0)


def tell_all(observers: Observers) -> None:
    observers.attempt_ended(made(), BACKEND, AttemptEnd.OK)
    observers.retried(made(), AttemptEnd.OK)
    observers.first_token(made())
    observers.settled(made())
    observers.flush()


@pytest.mark.parametrize("batched", [False, True])
def test_one_that_raises_silences_none_after_it_and_is_logged_once(
    batched: bool, caplog: pytest.LogCaptureFixture
) -> None:
    raising, keeping = Raising(), Keeping()
    observers = Observers(batched=[raising, keeping]) if batched else Observers(raising, keeping)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            tell_all(observers)
    assert keeping.told == EVENTS * 3
    logged = [(record.__dict__["observer"], record.__dict__["event"]) for record in caplog.records]
    assert logged == [("Raising", f"on_{event}") for event in EVENTS]
    assert all(record.exc_info for record in caplog.records)


def test_another_kind_of_error_is_logged_as_well(caplog: pytest.LogCaptureFixture) -> None:
    errors = [ValueError(), KeyError(), ValueError()]

    class Changing(Observer):
        def on_settled(self, exchange: Exchange) -> None:
            raise errors.pop()

    observers = Observers(Changing())
    for _ in range(3):
        observers.settled(made())
    assert [type(record.exc_info[1]) for record in caplog.records if record.exc_info] == [ValueError, KeyError]


def test_the_batched_ones_are_told_when_a_batch_is_full_or_asked_for() -> None:
    keeping = Keeping()
    observers = Observers(batched=[keeping])
    for _ in range(BATCH - 1):
        observers.settled(made())
    assert not keeping.told
    observers.settled(made())
    assert len(keeping.told) == BATCH
    observers.settled(made())
    observers.flush()
    observers.flush()
    assert len(keeping.told) == BATCH + 1


def test_one_whose_method_is_misspelled_is_refused() -> None:
    class Misspelled(Observer):
        def on_setled(self, exchange: Exchange) -> None:
            raise AssertionError

        def on_retried(self, exchange: Exchange, end: AttemptEnd) -> None:
            raise AssertionError

    with pytest.raises(TypeError, match=r"Misspelled has on_setled; the events are .*on_settled"):
        Observers(Misspelled())


def test_one_that_observes_nothing_is_refused() -> None:
    class Idle(Observer):
        def settled(self, exchange: Exchange) -> None:
            raise AssertionError

    with pytest.raises(TypeError, match="Idle overrides no event"):
        Observers(batched=[Idle()])
