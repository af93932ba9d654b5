"""The limit that processes share: never exceeded, no slot lost, nothing asleep beside a free one."""

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.claim import Claim
from gateway.shared.slots import NOTHING, SharedSlots, mark, unpacked
from gateway.shared.table import Table
from tests.shared.stepping import SteppedMemory

PLENTY = 1 << 60
STEPS = 40_000
orders = st.tuples(st.integers(0, 1 << 32), st.sampled_from([1, 4, 12]))
"""A seed, and for how many steps about one process goes on before another does."""


def shared_slots(table: Table) -> SharedSlots:
    """Return the backend's column; another process may take its time."""
    column = None
    while column is None:
        column = table.attach(table.layout.backends, "engine")
    table.beat(1.0)
    return SharedSlots(table, column)


def used(memory: SteppedMemory) -> int:
    start = memory.layout.backends.start(0)
    return unpacked(sum(memory.values[start : start + memory.layout.rows]))[0]


def turns(order: tuple[int, int]) -> Iterator[int]:
    """Return an order by chance, and a fair one at last."""
    rng, turn = Random(order[0]), 0
    for _ in range(STEPS):
        if rng.random() < 1 / order[1]:
            turn = rng.randrange(6)
        yield turn
    yield from islice(cycle(range(6)), STEPS)


def played(
    limit: int,
    programs: list[list[bool]],
    order: tuple[int, int],
    *,
    rows: int,
    within: Callable[[SteppedMemory, list[int]], None],
) -> SteppedMemory:
    """Have processes take slots and give them back; check after each step, and that cells say what they hold."""
    held = [0] * len(programs)

    def process(program: list[bool]) -> None:
        def work(table: Table) -> None:
            slots = shared_slots(table)
            for takes in program:
                if takes:
                    held[table.row] += slots.take(Claim(5), limit, PLENTY, 1.0)
                elif held[table.row]:
                    held[table.row] -= 1
                    slots.give_back(Claim(5))

        memory.add(work)

    memory = SteppedMemory(rows, lambda stepped: within(stepped, held))
    for program in programs:
        process(program)
    memory.run(turns(order))
    start = memory.layout.backends.start(0)
    assert [unpacked(each)[0] for each in memory.values[start : start + len(held)]] == held
    assert [unpacked(each)[1] for each in memory.values[start : start + len(held)]] == [5 * each for each in held]
    return memory


@settings(max_examples=300)
@given(st.sampled_from([1, 2, 3]), st.lists(st.lists(st.booleans(), max_size=6), min_size=2, max_size=4), orders)
def test_the_limit_is_never_exceeded_and_no_slot_is_lost(
    limit: int, programs: list[list[bool]], order: tuple[int, int]
) -> None:
    def within(memory: SteppedMemory, _: list[int]) -> None:
        assert used(memory) <= limit

    assert played(limit, programs, order, rows=4, within=within).held == {}


@settings(max_examples=300)
@given(
    st.sampled_from([12, 14, 17]),
    st.lists(st.lists(st.booleans(), max_size=20), min_size=2, max_size=3),
    orders,
)
def test_where_much_is_free_slots_are_taken_without_the_lock_and_the_limit_holds_too(
    limit: int, programs: list[list[bool]], order: tuple[int, int]
) -> None:
    def within(_: SteppedMemory, held: list[int]) -> None:
        assert sum(held) <= limit

    played(limit, programs, order, rows=3, within=within)


def test_no_lock_is_needed_unless_few_are_free_or_another_process_waits() -> None:
    memory = SteppedMemory(2)
    one, other = shared_slots(memory.join()), shared_slots(memory.join())
    memory.held[memory.layout.backends.lock] = 7
    assert [one.take(Claim(5), 12, PLENTY, 1.0) for _ in range(5)] == [True] * 4 + [False]
    assert (one.in_flight, one.own, one.own_kv, memory.woken) == (4, 4, 20, set())
    one.give_back(Claim(5))
    one.look()
    assert one.take(Claim(5), 12, PLENTY, 1.0)
    one.give_back(Claim(5))
    one.look()
    assert not one.take(Claim(5), 12, 30, 1.0), "tokens are short"
    assert not one.take(Claim(5), 12, 39, 1.0), "one request wants much of them"
    other.wait(mark(0, 1.0), 1)
    assert not one.take(Claim(5), 12, PLENTY, 1.0)
    assert (one.own, one.own_kv, memory.woken) == (3, 15, {1})


@settings(max_examples=300)
@given(
    st.sampled_from([1, 2]),
    st.lists(st.lists(st.tuples(st.sampled_from([0, 10, 20]), st.integers(0, 3)), max_size=3), min_size=2, max_size=3),
    orders,
)
def test_whatever_waits_is_served_and_none_before_a_higher_class(
    limit: int, programs: list[list[tuple[int, int]]], order: tuple[int, int]
) -> None:
    """Each process has requests of some class that wait. No timer helps it, as it helps one that cannot have a lock."""
    served: list[int] = []

    def within(memory: SteppedMemory) -> None:
        assert used(memory) <= limit

    def shown(row: int) -> list[int]:
        start = memory.layout.backends.start(0) + memory.layout.rows
        return [memory.values[start + other] for other in range(len(programs)) if other != row]

    def process(program: list[tuple[int, int]]) -> None:
        def work(table: Table) -> None:
            slots = shared_slots(table)
            waiting = sorted(program)
            holds: list[int] = []
            while waiting or holds:
                if waiting:
                    claim = Claim(1, waiting[0][0])
                    claim.since = waiting[0][1] / 1000
                    before = shown(table.row)
                    if slots.take(claim, limit, PLENTY, 1.0):
                        passed = set(before) & set(shown(table.row)) - {NOTHING}
                        assert not any(each >> 44 < mark(claim.priority, 0.0) >> 44 for each in passed)
                        waiting.pop(0)
                        served.append(claim.priority)
                        holds.append(3)
                        continue
                elsewhere = mark(waiting[0][0], waiting[0][1] / 1000) if waiting else NOTHING
                if slots.wait(elsewhere, limit):
                    continue
                if holds:
                    holds.pop()
                    slots.give_back(Claim(1))
                else:
                    memory.sleep()
            slots.wait(NOTHING, limit)

        memory.add(work)

    memory = SteppedMemory(3, within, patient=True)
    for program in programs:
        process(program)
    memory.run(turns(order))
    assert all(each.is_done for each in memory.processes), "asleep beside a free slot"
    assert sorted(served) == sorted(priority for program in programs for priority, _ in program)
    assert used(memory) == 0


def test_tokens_beyond_all_bounds_leave_the_requests_in_flight_right() -> None:
    memory = SteppedMemory(2)
    one, other = shared_slots(memory.join()), shared_slots(memory.join())
    huge = [Claim(1 << 62), Claim(1 << 70)]
    for each in huge:
        assert one.take(each, 100, 1 << 80, 1.0)
    other.look()
    assert other.in_flight == 2
    assert other.kv > 1 << 35, "more than any engine has"
    for each in huge:
        one.give_back(each)
    other.look()
    assert (one.own, one.own_kv, other.in_flight, other.kv) == (0, 0, 0, 0)
