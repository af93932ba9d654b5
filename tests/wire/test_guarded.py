"""A step of a request that breaks ends its request by an answer, and whatever started the step goes on."""

import pytest

from gateway.errors import GatewayError
from gateway.wire.guarded import broken, guarded, later
from tests.waiting import eventually


class Request:
    """A request that keeps what it was given up for, or breaks at that too."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.given_up: list[GatewayError] = []
        self._breaks = breaks

    def __repr__(self) -> str:
        return "<Request r1>"

    def give_up(self, error: GatewayError) -> None:
        self.given_up.append(error)
        if self._breaks:
            raise RuntimeError("no end")


def step(*taken: object) -> None:
    raise ValueError(f"no step {taken}")


def test_a_step_that_is_taken_gets_its_arguments() -> None:
    request, taken = Request(), list[object]()
    guarded(request, lambda *args: taken.append(args), 1, "two")
    assert (taken, request.given_up) == ([(1, "two")], [])


def test_a_step_that_breaks_ends_its_request_and_is_logged_with_it(caplog: pytest.LogCaptureFixture) -> None:
    request = Request()
    guarded(request, step, 1)
    (error,) = request.given_up
    assert (error.status, str(error)) == (500, "the gateway failed on this request; its log says why")
    assert "no step (1,)" in caplog.text
    assert [getattr(record, "request", "") for record in caplog.records] == ["<Request r1>"]


def test_an_end_that_breaks_too_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    guarded(Request(breaks=True), step)
    assert "a request that broke the gateway could not be ended" in caplog.text


def test_what_broke_is_not_told_to_the_client() -> None:
    assert "secret" not in str(broken(ValueError("secret"), "r1").body())


@pytest.mark.anyio
async def test_a_step_later_is_guarded_too() -> None:
    request = Request()
    later(0.0, request, step)
    assert not request.given_up
    await eventually(lambda: bool(request.given_up))


@pytest.mark.anyio
async def test_a_step_later_may_be_cancelled() -> None:
    request, other = Request(), Request()
    later(0.0, request, step).cancel()
    later(0.0, other, step)
    await eventually(lambda: bool(other.given_up))
    assert not request.given_up
