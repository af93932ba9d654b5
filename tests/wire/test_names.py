"""Looking up names: one that nobody answers for holds up no other, and what was found stays."""

import asyncio
from threading import Event, Thread

import pytest

from gateway.wire.names import AGAIN, FRESH, Name
from tests.waiting import DEADLINE, eventually

pytestmark = pytest.mark.anyio


class Resolver:
    """Answers as a test says; a name without an answer is met with silence."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.speak = Event()

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        if not self.answers:
            self.speak.wait(DEADLINE)
            raise OSError("nobody answers")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_address_needs_no_resolver(address: str) -> None:
    resolver = Resolver()
    assert await Name(address, 80, Time(), resolver).find() == (address,)
    assert not resolver.asked


async def test_names_without_an_answer_hold_up_no_other() -> None:
    silent = Resolver()
    looks = [asyncio.create_task(Name(f"silent-{i}", 80, Time(), silent).find()) for i in range(50)]
    assert await Name("quick", 80, Time(), Resolver(["10.0.0.1"])).find() == ("10.0.0.1",)
    assert not any(look.done() for look in looks)
    silent.speak.set()
    for look in looks:
        with pytest.raises(OSError, match="nobody answers"):
            await look


async def test_a_name_is_looked_up_once_for_everyone_who_asks() -> None:
    silent = Resolver()
    name = Name("silent", 80, Time(), silent)
    looks = [asyncio.create_task(name.find()) for _ in range(20)]
    await asyncio.sleep(0)
    looks[0].cancel()
    silent.speak.set()
    ended = await asyncio.gather(*looks, return_exceptions=True)
    assert silent.asked == 1
    assert [type(each) for each in ended] == [asyncio.CancelledError] + [OSError] * 19


async def test_whenever_a_name_is_asked_for_while_it_is_looked_up_the_answer_is_the_same() -> None:
    """Someone asks in every turn of the loop, so also in the turn in which the answer comes."""
    gate = Event()

    def found(_host: str, _port: int) -> list[str]:
        gate.wait(DEADLINE)
        return ["10.0.0.1"]

    name = Name("engine", 80, Time(), found)
    asked = [asyncio.create_task(name.find())]
    while not asked[-1].done():
        asked += [asyncio.create_task(name.find()) for _ in range(2)]
        await asyncio.sleep(0)
        gate.set()
    assert set(await asyncio.gather(*asked)) == {("10.0.0.1",)}


async def test_a_name_without_addresses_is_an_error() -> None:
    with pytest.raises(OSError, match="no address for nowhere"):
        await Name("nowhere", 80, Time(), Resolver([])).find()


async def test_addresses_are_looked_up_again_when_they_are_old() -> None:
    resolver, time = Resolver(["10.0.0.1"], ["10.0.0.2", "10.0.0.3"]), Time()
    name = Name("engine", 80, time, resolver)
    assert await name.find() == ("10.0.0.1",)
    time.now += FRESH - 1
    assert await name.find() == ("10.0.0.1",)
    time.now += 1
    assert await name.find() == ("10.0.0.1",), "nobody waits for the resolver"
    await eventually(lambda: name.addresses == ("10.0.0.2", "10.0.0.3"))
    assert name.left == {"10.0.0.1"}


@pytest.mark.parametrize("trouble", [OSError("SERVFAIL"), UnicodeError("label too long"), []])
async def test_what_was_found_stays_while_a_name_cannot_be_looked_up(trouble: Exception | list[str]) -> None:
    resolver, time = Resolver(["10.0.0.1"], trouble, ["10.0.0.2"]), Time()
    name = Name("engine", 80, time, resolver)
    await name.find()
    time.now += 10 * FRESH
    assert await name.find() == ("10.0.0.1",)
    await eventually(lambda: resolver.asked == 2 and not name.is_looking)
    assert await name.find() == ("10.0.0.1",)
    assert resolver.asked == 2, "a resolver in trouble is not asked at every connect"
    time.now += AGAIN
    name.renew()
    await eventually(lambda: name.addresses == ("10.0.0.2",))


async def test_silence_about_a_known_name_costs_nothing() -> None:
    resolver, time = Resolver(["10.0.0.1"]), Time()
    name = Name("engine", 80, time, resolver)
    await name.find()
    time.now += 100 * FRESH
    assert await name.find() == ("10.0.0.1",)
    assert name.is_looking
    resolver.speak.set()


async def test_a_name_that_never_was_found_is_an_error() -> None:
    name = Name("nowhere", 80, Time(), Resolver(OSError("NXDOMAIN"), ["10.0.0.1"]))
    with pytest.raises(OSError, match="NXDOMAIN"):
        await name.find()
    assert await name.find() == ("10.0.0.1",)


async def test_a_look_that_breaks_is_an_error_and_the_next_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    name = Name("engine", 80, Time(), Resolver(ValueError("embedded null"), ["10.0.0.1"]))
    with pytest.raises(OSError, match="embedded null"):
        await name.find()

    def out_of_threads(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", out_of_threads)
        with pytest.raises(OSError, match="can't start new thread"):
            await name.find()
    assert await name.find() == ("10.0.0.1",)
