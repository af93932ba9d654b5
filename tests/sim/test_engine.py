import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sim.engine import Engine, Sequence
from gateway.sim.profiles import GPU, Profile
from gateway.sim.text import prefix_hashes

STEADY = replace(GPU, jitter=0.0, max_model_len=1024, num_blocks=64, max_num_seqs=4, max_num_batched_tokens=64)


class Desk:
    """An engine with a clock of its own and everything that it has told."""

    def __init__(self, profile: Profile = STEADY, seed: int = 0) -> None:
        self.engine = Engine(profile, random.Random(seed))
        self.now = 0.0
        self.tokens: list[tuple[float, Sequence]] = []

    def submit(self, prompt: int, output: int, prefix: tuple[bytes, ...] = ()) -> Sequence:
        sequence = Sequence(prompt, output, self.now, prefix)
        self.engine.submit(sequence)
        return sequence

    def step(self) -> bool:
        step = self.engine.schedule(self.now)
        if step is None:
            return False
        self.now += step.duration
        self.tokens += [(self.now, sequence) for sequence in self.engine.complete(step, self.now)]
        return True

    def drain(self) -> None:
        while self.step():
            pass


def test_an_idle_engine_has_no_step() -> None:
    assert not Desk().step()


def test_a_sequence_gets_its_first_token_when_its_prompt_has_been_prefilled_and_then_one_each_step() -> None:
    desk = Desk()
    sequence = desk.submit(prompt=150, output=3)
    assert [desk.step() and sequence.produced for _ in range(5)] == [0, 0, 1, 2, 3]
    assert sequence.finished
    assert not desk.step()


def test_a_step_takes_the_time_that_the_profile_says() -> None:
    desk = Desk()
    desk.submit(prompt=64, output=2)
    desk.step()
    kv = STEADY.step_per_kv_token * 64
    prefill = STEADY.step_base + STEADY.step_per_sequence + kv + 64 / STEADY.prefill_rate
    assert desk.now == pytest.approx(prefill)
    desk.step()
    decode = STEADY.step_base + STEADY.step_per_sequence + STEADY.step_per_kv_token * 80
    assert desk.now - prefill == pytest.approx(decode)


def test_a_decode_step_of_a_gpu_takes_12_ms_alone_and_30_ms_in_a_full_batch() -> None:
    def decode_step(sequences: int) -> float:
        desk = Desk(replace(GPU, jitter=0.0))
        batch = [desk.submit(prompt=500, output=1000) for _ in range(sequences)]
        while not all(sequence.produced for sequence in batch):
            desk.step()
        before = desk.now
        desk.step()
        return desk.now - before

    assert decode_step(1) == pytest.approx(0.012, rel=0.1)
    assert decode_step(128) == pytest.approx(0.030, rel=0.1)


def test_prompts_share_the_token_budget_with_the_sequences_that_decode() -> None:
    desk = Desk()
    early = desk.submit(prompt=10, output=5)
    desk.step()
    late = desk.submit(prompt=100, output=5)
    step = desk.engine.schedule(desk.now)
    assert step is not None
    assert [(sequence, count) for sequence, count in step.batch] == [(early, 1), (late, 63)]
    assert step.tokens == STEADY.max_num_batched_tokens


def test_no_more_than_max_num_seqs_run_and_the_rest_wait_in_order() -> None:
    desk = Desk()
    sequences = [desk.submit(prompt=4, output=2) for _ in range(6)]
    desk.step()
    assert desk.engine.running == sequences[:4]
    assert list(desk.engine.waiting) == sequences[4:]
    desk.drain()
    assert [sequence for _, sequence in desk.tokens if sequence.finished][-1] in sequences[4:]


def test_queued_are_those_that_the_next_step_cannot_take() -> None:
    desk = Desk()
    counts = []
    for _ in range(6):
        desk.submit(prompt=4, output=2)
        counts.append(desk.engine.queued)
    assert counts == [0, 0, 0, 0, 1, 2]
    desk.step()
    assert desk.engine.queued == 2
    desk.drain()
    assert desk.engine.queued == 0


def test_blocks_follow_the_growth_of_a_sequence_and_return_when_it_ends() -> None:
    desk = Desk()
    desk.submit(prompt=30, output=5)
    used = []
    while desk.step():
        used.append(desk.engine.blocks.used)
    assert used == [2, 2, 2, 3, 0]


def test_when_blocks_run_out_the_youngest_is_preempted_computed_anew_and_nothing_is_lost() -> None:
    desk = Desk(replace(STEADY, num_blocks=8, max_model_len=128))
    old, young = desk.submit(prompt=50, output=40), desk.submit(prompt=50, output=40)
    desk.drain()
    assert (old.preemptions, young.preemptions) == (0, 1)
    assert desk.engine.tally.preemptions == 1
    assert (old.produced, young.produced) == (40, 40)
    assert desk.engine.tally.generation_tokens == 80


def test_what_a_preempted_sequence_had_is_computed_once_more() -> None:
    desk = Desk(replace(STEADY, num_blocks=8, max_model_len=128, prefix_caching=False))
    _, young = (desk.submit(prompt=50, output=40) for _ in range(2))
    computed = lost = 0
    while step := desk.engine.schedule(desk.now):
        computed += step.tokens
        if young.preemptions and not lost:
            lost = 50 + young.produced - 1
        desk.engine.complete(step, desk.now)
    assert lost > 0
    assert computed == 2 * (50 + 40 - 1) + lost


def test_nobody_is_admitted_in_the_step_that_preempts() -> None:
    desk = Desk(replace(STEADY, num_blocks=8, max_model_len=128, max_num_batched_tokens=20))
    old, young = desk.submit(prompt=50, output=40), desk.submit(prompt=50, output=40)
    while (step := desk.engine.schedule(desk.now)) and not young.preemptions:
        desk.engine.complete(step, desk.now)
    assert step is not None
    assert step.batch == ((old, 1),)
    assert desk.engine.queued == 1


def test_a_preempted_sequence_goes_back_to_the_head_of_the_queue() -> None:
    desk = Desk(replace(STEADY, num_blocks=8, max_model_len=128, max_num_seqs=2))
    _, young, waiting = (desk.submit(prompt=50, output=40) for _ in range(3))
    while not young.preemptions:
        desk.step()
    assert list(desk.engine.waiting) == [young, waiting]


def test_aborting_frees_at_once_whether_waiting_or_running() -> None:
    desk = Desk()
    sequences = [desk.submit(prompt=40, output=10) for _ in range(6)]
    desk.step()
    for sequence in sequences:
        desk.engine.abort(sequence)
        desk.engine.abort(sequence)
    assert (desk.engine.running, list(desk.engine.waiting), desk.engine.blocks.used) == ([], [], 0)
    assert desk.engine.tally.aborted == 6


def test_a_sequence_aborted_during_a_step_gets_no_token_from_it() -> None:
    desk = Desk()
    sequence = desk.submit(prompt=4, output=2)
    step = desk.engine.schedule(0.0)
    assert step is not None
    desk.engine.abort(sequence)
    assert desk.engine.complete(step, step.duration) == []


@pytest.mark.parametrize(("prompt", "output"), [(0, 1), (1, 0), (1000, 26)])
def test_a_sequence_that_cannot_be_served_is_refused(prompt: int, output: int) -> None:
    with pytest.raises(ValueError, match=r"at least one|max_model_len"):
        Desk().submit(prompt, output)


class TestPrefixCache:
    PROMPT = bytes(range(256)) * 2  # 128 tokens, 8 blocks

    def desk(self) -> tuple[Desk, tuple[bytes, ...]]:
        return Desk(), prefix_hashes(self.PROMPT, STEADY.block_size)

    def test_a_repeated_prompt_is_computed_only_past_its_last_known_block(self) -> None:
        desk, prefix = self.desk()
        desk.submit(128, 2, prefix)
        desk.drain()
        again = desk.submit(128, 2, prefix)
        desk.step()
        assert again.cached_tokens == 112
        assert again.produced == 1
        assert (desk.engine.tally.prefix_queries, desk.engine.tally.prefix_hits) == (256, 112)

    def test_only_the_common_beginning_counts(self) -> None:
        desk, prefix = self.desk()
        desk.submit(128, 2, prefix)
        desk.drain()
        other = prefix_hashes(self.PROMPT[:200] + b"x" * 312, STEADY.block_size)
        changed = desk.submit(128, 2, other)
        desk.step()
        assert changed.cached_tokens == 48

    def test_sequences_that_run_together_share_blocks(self) -> None:
        desk, prefix = self.desk()
        desk.submit(128, 100, prefix)
        desk.step()
        desk.step()
        desk.step()
        before = desk.engine.blocks.used
        desk.submit(128, 100, prefix)
        desk.step()
        assert desk.engine.blocks.used - before == 1

    def test_kept_prefixes_count_as_free_and_make_room_when_needed(self) -> None:
        desk, prefix = self.desk()
        desk.submit(128, 2, prefix)
        desk.drain()
        assert desk.engine.blocks.used == 0
        big = desk.submit(1000, 24)
        desk.drain()
        assert big.finished
        assert desk.submit(128, 2, prefix).cached_tokens == 0

    def test_it_can_be_switched_off(self) -> None:
        desk = Desk(replace(STEADY, prefix_caching=False))
        prefix = prefix_hashes(self.PROMPT, STEADY.block_size)
        for _ in range(2):
            desk.submit(128, 2, prefix)
            desk.drain()
        assert (desk.engine.tally.prefix_queries, desk.engine.tally.prefix_hits) == (0, 0)


arrivals = st.lists(
    st.tuples(
        st.integers(0, 6),  # steps before it arrives
        st.integers(1, 90),  # prompt tokens
        st.integers(1, 38),  # output tokens
        st.sampled_from([b"", b"a", b"b"]),  # which prompt it begins like
        st.none() | st.integers(0, 12),  # after how many more steps its client hangs up
    ),
    max_size=25,
)
profiles = st.builds(
    lambda blocks, seqs, budget, caching: replace(
        STEADY,
        num_blocks=blocks,
        max_num_seqs=seqs,
        max_num_batched_tokens=budget,
        prefix_caching=caching,
        max_model_len=128,
        jitter=0.05,
    ),
    st.integers(8, 24),
    st.integers(1, 6),
    st.integers(1, 80),
    st.booleans(),
)


def check_blocks(engine: Engine) -> None:
    """Every block is somewhere once, none more than there are, and enough for what has been computed."""
    pool = engine.blocks
    held = sum(sequence.private for sequence in engine.running)
    shared = {block for sequence in engine.running for block in sequence.shared}
    assert 0 <= pool.used <= pool.total
    assert held + len(shared) == pool.used
    for sequence in engine.running:
        assert (sequence.private + len(sequence.shared)) * engine.profile.block_size >= sequence.computed
    assert all(not sequence.private and not sequence.shared for sequence in engine.waiting)


@given(profiles, arrivals)
def test_whatever_comes_blocks_stay_within_bounds_and_every_sequence_ends(
    profile: Profile, plan: list[tuple[int, int, int, bytes, int | None]]
) -> None:
    desk = Desk(profile)
    submitted: list[Sequence] = []
    leaving: list[tuple[int, Sequence]] = []
    steps = 0
    for gap, prompt, output, kind, leaves in plan:
        for _ in range(gap):
            steps += desk.step()
            check_blocks(desk.engine)
            for _, sequence in [entry for entry in leaving if entry[0] <= steps]:
                desk.engine.abort(sequence)
        data = (kind * 360)[: prompt * 4]
        sequence = desk.submit(prompt, output, prefix_hashes(data, profile.block_size))
        submitted.append(sequence)
        if leaves is not None:
            leaving.append((steps + leaves, sequence))
    while desk.step():
        check_blocks(desk.engine)
    tally = desk.engine.tally
    assert tally.finished + tally.aborted == len(submitted)
    assert all(sequence.finished for sequence in submitted if sequence not in [gone for _, gone in leaving])
    assert tally.generation_tokens == sum(sequence.produced for sequence in submitted) == len(desk.tokens)
    assert tally.prompt_tokens == sum(sequence.prompt_tokens for sequence in submitted if sequence.produced)
    assert tally.prefix_hits <= tally.prefix_queries
    assert (desk.engine.blocks.used, desk.engine.running, len(desk.engine.waiting)) == (0, [], 0)


@given(st.integers(0, 2**32), st.lists(st.tuples(st.integers(1, 90), st.integers(1, 38)), min_size=1, max_size=10))
def test_the_same_seed_and_arrivals_give_the_same_times(seed: int, plan: list[tuple[int, int]]) -> None:
    def times() -> list[float]:
        desk = Desk(replace(STEADY, jitter=0.1), seed)
        for prompt, output in plan:
            desk.submit(prompt, output)
        desk.drain()
        return [when for when, _ in desk.tokens]

    assert times() == times()
