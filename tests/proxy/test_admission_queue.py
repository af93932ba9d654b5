"""Slots given back find who is next; limits hold; nobody is forgotten."""

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.claim import Claim
from gateway.policy.admission.classes import CLASSES, ServiceClass
from gateway.policy.admission.decide import Shed, TurnedAway
from gateway.policy.admission.kinds import Kind
from gateway.policy.admission.queue import Entry
from gateway.policy.routing.choose import choose
from gateway.policy.routing.health import Health
from gateway.policy.routing.lease import Lease
from gateway.policy.routing.pool_state import PoolState
from gateway.proxy.admission_queue import AdmissionQueue, Queued, join
from gateway.proxy.awaited_slots import holders_of

names, tenants = st.sampled_from(list(CLASSES)), st.sampled_from(["a", "b"])


class Engine:
    def __init__(self, health: Health) -> None:
        self.health = health


class Waiting:
    """A request that takes a slot when there is one."""

    def __init__(self, world: "Admitting", kv: int, service_class: ServiceClass = CLASSES["standard"]) -> None:
        self.world = world
        self.kv = kv
        self.claim = Claim(kv, service_class.priority, sheddable=service_class.sheddable, kind=world.kind)
        self.refused: TurnedAway | None = None

    def begin(self, now: float) -> bool:
        return self.world.take(self.claim)

    def turned_away(self, why: TurnedAway) -> None:
        self.refused = why

    def broke(self) -> None:
        raise AssertionError("nothing breaks here")

    def renew(self, now: float) -> None:
        raise AssertionError("no routes change here")


class Admitting(RuleBasedStateMachine):
    """Two lines that share two engines, under any interleaving."""

    def __init__(self) -> None:
        super().__init__()
        self.peers = PoolState("gpu", 0.0)
        self.peers.follow(["x", "y"])
        self.engines = [Engine(health) for health in self.peers.members.values()]
        for engine in self.engines:
            engine.health.slots.limit_to(3)
            engine.health.slots.kv_capacity = 100
        self.lines = [AdmissionQueue(CLASSES), AdmissionQueue(CLASSES)]
        join((line, [engine.health for engine in self.engines]) for line in self.lines)
        self.kind = Kind()
        self.leases: list[Lease] = []
        self.entries: list[tuple[AdmissionQueue, Entry[Queued]]] = []
        self.rng = Random(1)

    def take(self, claim: Claim) -> bool:
        choice = choose(self.engines, 10, 0.0, self.rng, claim)
        if choice is None:
            return False
        self.leases.append(choice.winner.health.lease(10, claim, 0.0))
        return True

    @rule(at=st.integers(0, 1), name=names, tenant=tenants, kv=st.integers(1, 150))
    def arrive(self, at: int, name: str, tenant: str, kv: int) -> None:
        line = self.lines[at]
        waiting = Waiting(self, kv, CLASSES[name])
        if not line.must_wait(CLASSES[name]) and self.take(waiting.claim):
            return
        entry = line.enter(waiting, CLASSES[name], tenant, now=0.0, patience=1e9, chance=0.5)
        if isinstance(entry, TurnedAway):
            assert entry.why is Shed.HOPELESS
        else:
            self.entries.append((line, entry))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1))).release()
        self.kind.ended(0.001)
        self.lines[0].give_back(0.0, 0.001)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        line, entry = self.entries.pop(data.draw(st.integers(0, len(self.entries) - 1)))
        line.leave(entry, 0.0)

    @rule(limit=st.integers(1, 5))
    def relimit(self, limit: int) -> None:
        for engine in self.engines:
            engine.health.slots.limit_to(max(limit, engine.health.slots.in_flight))
        self.lines[0].freed(0.0)

    @rule()
    def tick(self) -> None:
        for engine in self.engines:
            holders_of(engine.health).tick(0.0, 0.25)

    @invariant()
    def no_limit_is_exceeded_and_nothing_is_lost(self) -> None:
        healths = [engine.health for engine in self.engines]
        for health in healths:
            assert health.slots.in_flight <= health.slots.limit
            assert health.slots.kv <= health.slots.kv_capacity or health.slots.in_flight == 1
        assert sum(health.slots.in_flight for health in healths) == len(self.leases)
        waiting = [entry for line in self.lines for entry in line.queue]
        known = {id(entry) for _, entry in self.entries}
        assert all(id(entry) in known for entry in waiting)

    @invariant()
    def no_slot_stays_free_while_the_next_in_line_fits(self) -> None:
        for line in self.lines:
            entry = line.queue.head()
            if entry is not None:
                assert not any(engine.health.slots.has_slot(entry.item.claim) for engine in self.engines)


Admitting.TestCase.settings = settings(deadline=None, max_examples=60)
TestAdmitting = Admitting.TestCase


def test_a_full_queue_pushes_out_the_newest_of_the_lowest_class() -> None:
    line = AdmissionQueue(CLASSES)
    world = Admitting()
    for engine in world.engines:
        engine.health.slots.limit_to(0)
    low = [Waiting(world, 1, CLASSES["batch"]) for _ in range(3)]
    for number, waiting in enumerate(low):
        line.enter(waiting, CLASSES["batch"], "a", now=float(number), patience=1e9, chance=0.5)
    line.queue.size += 10_000 - 3
    high = line.enter(Waiting(world, 1), CLASSES["standard"], "a", now=8.0, patience=1e9, chance=0.5)
    assert isinstance(high, Entry)
    assert [waiting.refused is not None for waiting in low] == [False, False, True]
    also = line.enter(Waiting(world, 1), CLASSES["batch"], "a", now=9.0, patience=1e9, chance=0.5)
    assert isinstance(also, TurnedAway)
    assert also.why is Shed.FULL
    assert line.sheds == {("batch", Shed.PUSHED_OUT): 1, ("batch", Shed.FULL): 1}


def test_slots_come_free_at_the_rate_of_littles_law() -> None:
    world = Admitting()
    line = world.lines[0]
    assert (line.forecast.rate, line.forecast.seconds) == (0.0, 0.0)
    for _ in range(4):
        assert world.take(Claim(10))
    line.give_back(0.0, 2.0)
    assert line.forecast.rate == 2.0
    assert repr(line).endswith("at 2.0 slots/s>")


class Broken(Waiting):
    """A request that cannot be handled."""

    gone = False

    def begin(self, now: float) -> bool:
        raise OverflowError("int too large to convert to float")

    def broke(self) -> None:
        self.gone = True


def test_a_request_that_cannot_be_handled_leaves_and_blocks_no_other() -> None:
    world = Admitting()
    line = world.lines[0]
    broken, well = Broken(world, 1), Waiting(world, 1)
    for engine in world.engines:
        engine.health.slots.limit_to(0)
    for waiting in (broken, well):
        line.enter(waiting, CLASSES["standard"], "a", now=0.0, patience=1e9, chance=0.5)
    for engine in world.engines:
        engine.health.slots.limit_to(1)
    line.freed(1.0)
    line.freed(1.25)
    assert (broken.gone, line.queue.size, len(world.leases)) == (True, 0, 1)


def test_a_slow_spell_refuses_no_one_and_what_stays_slow_does() -> None:
    world = Admitting()
    line = world.lines[0]
    for engine in world.engines:
        engine.health.slots.limit_to(1)
        assert world.take(Waiting(world, 1).claim)

    def arrive(now: float) -> Entry[Queued] | TurnedAway:
        return line.enter(Waiting(world, 1), CLASSES["standard"], "a", now=now, patience=5.0, chance=0.5)

    for seconds in (*[1.0] * 64, *[40.0] * 32):
        world.kind.ended(seconds)
    assert all(isinstance(arrive(20.0), Entry) for _ in range(4))
    for _ in range(256):
        world.kind.ended(40.0)
    refused = arrive(21.0)
    assert isinstance(refused, TurnedAway)
    assert refused.why is Shed.HOPELESS


def test_one_that_an_engine_sent_back_waits_on_before_those_that_came_later() -> None:
    world = Admitting()
    line = world.lines[0]
    for engine in world.engines:
        engine.health.slots.limit_to(0)
    first, second = Waiting(world, 1), Waiting(world, 1)
    entries = [
        line.enter(each, CLASSES["standard"], "a", now=float(now), patience=9.0, chance=0.5)
        for now, each in enumerate((first, second))
    ]
    world.engines[0].health.slots.limit_to(1)
    line.freed(2.0)
    assert [entry.item for entry in line.queue] == [second]
    world.engines[0].health.slots.limit_to(0)
    world.leases.pop().release()
    line.give_back(2.0)
    assert line.forecast.seconds == 0.0, "nothing was worked on"
    assert isinstance(entries[0], Entry)
    line.rejoin(entries[0], 2.0)
    assert [entry.item for entry in line.queue] == [first, second]
    assert entries[0].until == 9.0


def test_what_is_kept_from_a_class_is_not_for_those_below_it() -> None:
    """Long requests of a middle class leave slots free for a higher one; the lowest may not take these in its stead."""
    world = Admitting()
    one, other = (engine.health for engine in world.engines)
    one.slots.limit_to(7)
    other.slots.limit_to(0)
    short, long = Kind(), Kind()
    for _ in range(20):
        short.ended(1.0)
        long.ended(20.0)
    for claim in [Claim(1, 0, kind=short) for _ in range(3)] + [Claim(1, 10, kind=long) for _ in range(2)]:
        world.leases.append(one.lease(10, claim, 0.0))
    for _ in range(400):
        holders_of(one).tick(0.0, 0.25)
    line = world.lines[0]
    entries = []
    for name in ("standard", "batch"):
        waiting = Waiting(world, 1, CLASSES[name])
        waiting.claim = Claim(1, CLASSES[name].priority, sheddable=CLASSES[name].sheddable, kind=long)
        entries.append(line.enter(waiting, CLASSES[name], "a", now=0.0, patience=1e9, chance=0.5))
    assert one.slots.in_flight == 5
    assert isinstance(entries[0], Entry)
    line.leave(entries[0], 1.0)
    assert one.slots.in_flight == 6, "without one of the middle class, the lowest may have one"


def test_a_place_kept_for_a_large_request_goes_over_to_one_of_a_higher_class() -> None:
    world = Admitting()
    one, other = (engine.health for engine in world.engines)
    join([(world.lines[0], [one])])
    other.slots.limit_to(0)
    line = world.lines[0]
    world.leases.append(one.lease(10, Claim(60, 20, sheddable=True), 0.0))
    low, high = Waiting(world, 80, CLASSES["batch"]), Waiting(world, 90, CLASSES["interactive"])
    line.enter(low, CLASSES["batch"], "a", now=0.0, patience=1e9, chance=0.5)
    line.freed(2.0)
    assert holders_of(one).kept_for is low.claim
    line.enter(high, CLASSES["interactive"], "a", now=2.0, patience=1e9, chance=0.5)
    line.freed(2.5)
    assert holders_of(one).kept_for is low.claim, "smaller ones may pass it for a second"
    line.freed(3.5)
    assert holders_of(one).kept_for is high.claim
    line.enter(Waiting(world, 30), CLASSES["standard"], "a", now=4.0, patience=1e9, chance=0.5)
    assert one.slots.in_flight == 1
    world.leases.pop().release()
    line.give_back(5.0, 5.0)
    assert (one.slots.in_flight, one.slots.kv) == (1, 90)


def test_a_place_is_taken_by_the_one_that_it_is_kept_for_though_a_higher_class_waits() -> None:
    """With two engines a kept place is closed to higher classes too, and yet not to the large request itself."""
    world = Admitting()
    one, other = (engine.health for engine in world.engines)
    line = world.lines[0]
    for health, kv in ((one, 60), (other, 90)):
        world.leases.append(health.lease(10, Claim(kv, 20, sheddable=True), 0.0))
    large = Waiting(world, 80, CLASSES["batch"])
    line.enter(large, CLASSES["batch"], "a", now=0.0, patience=1e9, chance=0.5)
    line.freed(2.0)
    assert holders_of(one).kept_for is large.claim
    line.enter(
        Waiting(world, 15, CLASSES["interactive"]), CLASSES["interactive"], "a", now=2.0, patience=1e9, chance=0.5
    )
    assert (one.slots.in_flight, other.slots.in_flight) == (1, 1)
    world.leases.pop(0).release()
    line.give_back(2.5, 2.5)
    assert holders_of(one).kept_for is None
    assert large.claim in holders_of(one).held


def test_the_engines_ttft_is_taken_with_a_margin_only_once_a_class_has_queued_for_longer_than_its_threshold() -> None:
    world = Admitting()
    one, other = (engine.health for engine in world.engines)
    line = world.lines[0]
    interactive = CLASSES["interactive"]
    for health in (one, other):
        for ttft in (0.1, 0.7) * 40:
            lease = health.lease(1, Claim(), 0.0)
            health.began(lease, ttft)
            lease.release()
    world.peers.tick(1.0, {}, Random(1))

    def patience(now: float) -> float:
        return line.patience(interactive, world.kind, 2.0, 1, now)

    assert one.latency.ttft.caution > 1.5
    assert 1.2 < patience(0.0) < 1.8
    one.slots.limit_to(0)
    other.slots.limit_to(0)
    line.enter(Waiting(world, 1, interactive), interactive, "a", now=0.0, patience=1e9, chance=0.5)
    assert patience(1.9) == patience(0.0)
    assert patience(2.1) < patience(0.0)
