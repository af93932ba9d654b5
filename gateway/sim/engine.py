"""Continuous batching as vLLM's V1 scheduler does it, without clock, chance or I/O of its own."""

import random
from collections import deque
from dataclasses import dataclass, field

from gateway.sim.blocks import BlockPool
from gateway.sim.profiles import Profile


@dataclass(slots=True, eq=False)
class Sequence:
    """One choice of one request: so many prompt tokens in, so many output tokens out.

    `prefix` holds one hash for each full block of the prompt, each covering everything before it. `computed` counts
    the tokens whose KV entries exist; `latency` is the wait for the latest token; `finish_reason` is what the engine
    reports once the last token is out; `adapter` is the LoRA adapter it runs with. Times are readings of the
    caller's clock, in seconds; None until they happen.
    """

    prompt_tokens: int
    output_tokens: int
    arrived: float
    prefix: tuple[bytes, ...] = ()
    computed: int = 0
    produced: int = 0
    private: int = 0
    shared: list[bytes] = field(default_factory=list)
    cached_tokens: int = 0
    preemptions: int = 0
    scheduled: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    latency: float = 0.0
    alive: bool = True
    finish_reason: str = "length"
    adapter: str = ""

    @property
    def finished(self) -> bool:
        """Whether the last token has been produced."""
        return self.produced >= self.output_tokens


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass: how many tokens of which sequence, and how many seconds it takes."""

    batch: tuple[tuple[Sequence, int], ...]
    duration: float

    @property
    def tokens(self) -> int:
        """Tokens computed in this pass, prompt and decode together."""
        return sum(count for _, count in self.batch)


@dataclass(slots=True)
class Tally:
    """What the engine has done since it began."""

    preemptions: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    finished: int = 0
    aborted: int = 0


class Engine:
    """Waiting and running sequences that share one KV cache and one token budget per step.

    The caller alternates `schedule` (which decides a step), waits for its duration, and calls `complete`. `delayed` are
    sequences that an injected fault keeps from it: to those who ask, it works on them. `sleep_level` is 0 while awake.
    """

    def __init__(self, profile: Profile, rng: random.Random) -> None:
        self.profile = profile
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.delayed = 0
        self.sleep_level = 0
        self.blocks = BlockPool(profile.num_blocks)
        self.tally = Tally()
        self._full = False
        self._rng = rng

    def __repr__(self) -> str:
        return f"<Engine {self.profile.name} {len(self.running)} running {len(self.waiting)} waiting {self.blocks!r}>"

    @property
    def kv_usage(self) -> float:
        """Share of the KV cache that sequences hold, 0 to 1."""
        return self.blocks.used / self.blocks.total

    @property
    def queued(self) -> int:
        """Sequences that wait for capacity, not only for the next step to begin."""
        if self._full:
            return len(self.waiting)
        return max(0, len(self.waiting) - (self.profile.max_num_seqs - len(self.running)))

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence; ValueError if it asks for no output or is longer than the model's context."""
        if sequence.prompt_tokens < 1 or sequence.output_tokens < 1:
            raise ValueError("a sequence has at least one prompt token and one output token")
        if sequence.prompt_tokens + sequence.output_tokens > self.profile.max_model_len + 1:
            raise ValueError(f"a sequence must fit into max_model_len={self.profile.max_model_len}")
        self.waiting.append(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Forget a sequence and free its blocks at once; nothing happens if it is over or was never submitted."""
        if not sequence.alive:
            return
        for queue in (self.running, self.waiting):
            if sequence in queue:
                queue.remove(sequence)
                self._release(sequence)
                sequence.alive = False
                self.tally.aborted += 1
                return

    def schedule(self, now: float) -> Step | None:
        """Choose what the next forward pass computes; None when there is nothing to do.

        Running sequences come first, oldest first; when one cannot grow, the youngest is preempted. Only if none
        was preempted are waiting ones admitted, in order, as far as batch, token budget and KV blocks allow.
        """
        batch: list[tuple[Sequence, int]] = []
        budget = self.profile.max_num_batched_tokens
        preemptions = self.tally.preemptions
        position = 0
        while position < len(self.running) and budget:
            sequence = self.running[position]
            count = min(sequence.prompt_tokens + sequence.produced - sequence.computed, budget)
            if not self._make_room(sequence, count):
                break
            batch.append((sequence, count))
            budget -= count
            position += 1
        if self.tally.preemptions == preemptions:
            self._admit(batch, budget, now)
        self._full = bool(self.waiting)
        return Step(tuple(batch), self._duration(batch)) if batch else None

    def complete(self, step: Step, now: float) -> list[Sequence]:
        """Account for a finished pass; returns the sequences that produced one token each, in batch order."""
        produced = []
        for sequence, count in step.batch:
            if not sequence.alive:
                continue
            sequence.computed += count
            if sequence.computed <= sequence.prompt_tokens:
                self._publish(sequence)
            if sequence.computed < sequence.prompt_tokens + sequence.produced:
                continue
            self._produce(sequence, now)
            produced.append(sequence)
        if any(sequence.finished for sequence in produced):
            self.running = [sequence for sequence in self.running if sequence.alive]
        return produced

    def _produce(self, sequence: Sequence, now: float) -> None:
        if sequence.last_token is None:
            sequence.first_token = now
            sequence.latency = now - sequence.arrived
            self.tally.prompt_tokens += sequence.prompt_tokens
        else:
            sequence.latency = now - sequence.last_token
        sequence.last_token = now
        sequence.produced += 1
        self.tally.generation_tokens += 1
        if sequence.finished:
            sequence.alive = False
            self._release(sequence)
            self.tally.finished += 1

    def _make_room(self, sequence: Sequence, count: int) -> bool:
        while not self._fit(sequence, count):
            victim = self.running.pop()
            self._release(victim)
            victim.preemptions += 1
            self.waiting.appendleft(victim)
            self.tally.preemptions += 1
            if victim is sequence:
                return False
        return True

    def _admit(self, batch: list[tuple[Sequence, int]], budget: int, now: float) -> None:
        while self.waiting and budget and len(self.running) < self.profile.max_num_seqs:
            sequence = self.waiting[0]
            hits = self._reuse(sequence)
            count = min(sequence.prompt_tokens + sequence.produced - sequence.computed, budget)
            if not self._fit(sequence, count):
                self._release(sequence)
                return
            self.running.append(self.waiting.popleft())
            if sequence.scheduled is None:
                sequence.scheduled = now
                sequence.cached_tokens = hits
                if self.profile.prefix_caching:
                    self.tally.prefix_queries += sequence.prompt_tokens
                    self.tally.prefix_hits += hits
            batch.append((sequence, count))
            budget -= count

    def _reuse(self, sequence: Sequence) -> int:
        """Start from what the cache knows of the prompt, always leaving at least one token to compute."""
        if not self.profile.prefix_caching:
            return 0
        most = (sequence.prompt_tokens - 1) // self.profile.block_size
        known = min(self.blocks.known(sequence.prefix), most)
        for block in sequence.prefix[:known]:
            self.blocks.pin(block)
            sequence.shared.append(block)
        sequence.computed = known * self.profile.block_size
        return sequence.computed

    def _fit(self, sequence: Sequence, count: int) -> bool:
        need = -(-(sequence.computed + count) // self.profile.block_size) - sequence.private - len(sequence.shared)
        if need <= 0:
            return True
        if not self.blocks.take(need):
            return False
        sequence.private += need
        return True

    def _publish(self, sequence: Sequence) -> None:
        if not self.profile.prefix_caching:
            return
        full = min(sequence.computed // self.profile.block_size, len(sequence.prefix))
        for block in sequence.prefix[len(sequence.shared) : full]:
            if not self.blocks.publish(block):
                return
            sequence.private -= 1
            sequence.shared.append(block)

    def _release(self, sequence: Sequence) -> None:
        self.blocks.give(sequence.private)
        sequence.private = sequence.computed = 0
        while sequence.shared:
            self.blocks.unpin(sequence.shared.pop())

    def _duration(self, batch: list[tuple[Sequence, int]]) -> float:
        profile = self.profile
        prefilled = sum(count for sequence, count in batch if sequence.computed < sequence.prompt_tokens)
        seconds = (
            profile.step_base
            + profile.step_per_sequence * len(batch)
            + profile.step_per_kv_token * self.blocks.used * profile.block_size
            + prefilled / profile.prefill_rate
        )
        return seconds * (1 + profile.jitter * self._rng.uniform(-1, 1))
