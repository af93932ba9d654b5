"""Finding who keeps a response: a few backends at a time, for a few seconds, and no more searches than there may be."""

import pytest

from gateway.errors import NotFound, Unavailable
from gateway.proxy.searching import AT_ONCE, MOST, SECONDS, Search, Searches
from gateway.proxy.stored import Keeper
from tests.control.tables import models
from tests.proxy.front import Front, Opened, whole

NO, YES = whole(404, {"error": "x"}), whole(200, {"id": "resp_1"})


class World:
    """A search among so many backends."""

    def __init__(self, opened: Opened, backends: int) -> None:
        self.front: Front = opened(models(*(f"http://127.0.0.1:{8001 + number}" for number in range(backends))))
        self.searches, self.found, self.failed = Searches(), list[Keeper](), list[Exception]()

    def begin(self) -> Search:
        model = self.front.current.table.model("m")
        (version,) = model.versions.values()
        keepers = [Keeper(model, version, backend) for backend in self.front.registry]
        begun = list[Search]()
        self.front.loop.do(
            lambda: begun.append(self.searches.begin("resp_1", keepers, self.found.append, self.failed.append))
        )
        return begun[0]


def test_the_first_that_has_it_is_found_and_the_others_are_asked_no_more(opened: Opened) -> None:
    world = World(opened, 3)
    world.begin()
    first, second, third = world.front.connects()
    assert all(b"GET /v1/responses/resp_1 " in side.read for side in (first, second, third))
    world.front.says(NO, first)
    world.front.says(YES, second)
    assert [keeper.backend.spec.port for keeper in world.found] == [8002]
    assert third.closed
    assert (world.failed, len(world.searches.running)) == ([], 0)


def test_a_backend_that_says_no_keeps_its_connection(opened: Opened) -> None:
    world = World(opened, 1)
    world.begin()
    world.front.answers(NO)
    assert [type(each) for each in world.failed] == [NotFound]
    (backend,) = world.front.registry
    assert backend.pool.idle == 1


def test_a_few_are_asked_at_once(opened: Opened) -> None:
    world = World(opened, AT_ONCE + 2)
    world.begin()
    sides = world.front.connects()
    assert len(sides) == AT_ONCE
    world.front.says(NO, sides[0])
    assert len(world.front.connects()) == AT_ONCE
    while not world.failed:
        world.front.answers(NO)
    assert [type(each) for each in world.failed] == [NotFound]


def test_one_that_cannot_be_reached_keeps_nothing(opened: Opened) -> None:
    world = World(opened, 1)
    world.begin()
    world.front.connects(ConnectionRefusedError(111, "refused"))
    assert [type(each) for each in world.failed] == [NotFound]


def test_one_that_breaks_off_may_keep_it(opened: Opened) -> None:
    world = World(opened, 1)
    world.begin()
    (side,) = world.front.connects()
    world.front.loop.do(side.close)
    assert [type(each) for each in world.failed] == [Unavailable]


def test_a_refusal_without_end_is_not_read_to_it(opened: Opened) -> None:
    world = World(opened, 1)
    world.begin()
    (side,) = world.front.connects()
    world.front.says(b"HTTP/1.1 404 Not Found\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 70_000)
    assert side.closed
    assert [type(each) for each in world.failed] == [NotFound]


def test_after_some_seconds_the_client_is_told_to_ask_again(opened: Opened) -> None:
    world = World(opened, 1)
    world.begin()
    (side,) = world.front.connects()
    world.front.loop.now += SECONDS
    world.front.loop.do(lambda: None)
    assert [type(each) for each in world.failed] == [Unavailable]
    assert side.closed


def test_a_search_that_is_cancelled_ends_without_a_word(opened: Opened) -> None:
    world = World(opened, 1)
    search = world.begin()
    world.front.loop.do(search.cancel)
    assert world.front.connects() == []
    assert (world.found, world.failed) == ([], [])


def test_there_are_only_so_many_at_once(opened: Opened) -> None:
    world = World(opened, 1)
    for _ in range(MOST):
        world.begin()
    with pytest.raises(Unavailable, match="too many responses"):
        world.searches.begin("resp_1", (), world.found.append, world.failed.append)
