"""How long a backend is likely to take: models of its TTFT and TPOT, and the work that lies before it."""

from typing import Final

from gateway.policy.routing.engine_queue import EngineQueue
from gateway.policy.routing.fit import FLOOR, Fit, Row, predict
from gateway.policy.routing.residual import OUTLIER, Residual

OWN_HALF_LIFE: Final = 5.0
POOL_HALF_LIFE: Final = 30.0
MOST_SAMPLES: Final = 256
FEWEST_SAMPLES: Final = 8
"""First tokens, and answers, that are learnt from at one tick, of a whole pool and of each of its backends: more would
say the same, and keep the event loop from its work."""
SURPRISE: Final = 5.0
"""How many times the predicted a first token is taken for: one moment of silence says little about the next request."""


class LatencySample:
    """One request as the models see it: what was ahead of it when it was sent, and its `ttft`.

    `tokens` are the prompt tokens to prefill until its first token, others' ahead of it included; `in_flight` the
    requests that it found there. `ttft` is in seconds, 0.0 while there is no first token.
    """

    __slots__ = ("_model", "in_flight", "tokens", "ttft")

    def __init__(self, tokens: int, in_flight: float, model: Row) -> None:
        self.tokens = tokens
        self.in_flight = in_flight
        self.ttft = 0.0
        self._model = model

    @property
    def predicted(self) -> float:
        """Its TTFT in seconds, as predicted when it was sent."""
        return predict(self._model, self.tokens, self.in_flight)


class PoolLatency:
    """What the backends of one pool have in common: models of `ttft` and `tpot` that those with few samples lean on.

    `samples` is how many of one backend are learnt from at a tick, `learnt_at` when there last was one (seconds).
    """

    __slots__ = ("learnt_at", "samples", "tpot", "ttft")

    def __init__(self, now: float) -> None:
        self.ttft = Fit(POOL_HALF_LIFE)
        self.tpot = Fit(POOL_HALF_LIFE)
        self.samples = MOST_SAMPLES
        self.learnt_at = now

    def __repr__(self) -> str:
        return f"<PoolLatency ttft {self.ttft} tpot {self.tpot}>"

    @property
    def is_known(self) -> bool:
        """Whether there are samples to predict from."""
        return self.ttft.samples >= 1.0

    def share_among(self, backends: int) -> None:
        """Share the samples of one tick among so many backends."""
        self.samples = max(FEWEST_SAMPLES, MOST_SAMPLES // max(1, backends))

    def slowness(self, sample: LatencySample, tpot: float | None) -> float:
        """Return how many times longer an answer took than is expected of the same work.

        The worse of its TTFT and its TPOT in seconds; 0.0 where neither is known.
        """
        ttfts, tpots = self.ttft, self.tpot
        begun = sample.ttft / ttfts.predict(sample.tokens, sample.in_flight) if ttfts.samples >= 1.0 else 0.0
        if tpot is None or tpots.samples < 1.0:
            return begun
        return max(begun, tpot / tpots.predict(0.0, sample.in_flight))

    def refit(self, elapsed: float) -> None:
        """Let so many seconds pass."""
        self.ttft.refit(elapsed)
        self.tpot.refit(elapsed)

    def forget(self) -> None:
        """Unlearn both."""
        self.ttft.forget()
        self.tpot.forget()


class LatencyModel:
    """One backend's own models of `ttft` and `tpot`, and what is ahead of one more request.

    `prefilling` are prompt tokens of attempts without a first token yet, `unbegun` those attempts, `foreign` the
    requests of others that count as waiting in the engine.
    """

    __slots__ = ("_begun", "_finished", "_pool", "_queue", "foreign", "prefilling", "tpot", "ttft", "unbegun")

    def __init__(self, pool: PoolLatency) -> None:
        self.ttft = Fit(OWN_HALF_LIFE)
        self.tpot = Fit(OWN_HALF_LIFE)
        self.prefilling = 0
        self.unbegun = 0
        self.foreign = 0.0
        self._pool = pool
        self._queue = EngineQueue()
        self._begun: list[tuple[LatencySample, float]] = []
        self._finished: list[tuple[LatencySample, float | None]] = []

    def __repr__(self) -> str:
        return f"<LatencyModel ttft {self.ttft} tpot {self.tpot}, {self.prefilling} tokens to prefill>"

    def predicted(self, tokens: int, in_flight: int) -> float:
        """Return the TTFT in seconds that a prompt of so many tokens would meet beside so many requests."""
        # As fit.predict, without its two calls: every request asks this of every backend.
        base, token, request = self.ttft.coefficients
        if foreign := self.foreign:
            seconds = base + token * (self.prefilling + tokens + foreign * tokens)
            seconds += request * (in_flight + foreign)
        else:
            seconds = base + token * (self.prefilling + tokens) + request * in_flight
        return seconds if seconds > FLOOR else FLOOR

    def predicted_tpot(self, in_flight: int) -> float:
        """Return the TPOT in seconds that one more request would meet; 0.0 while nothing is known of the pool's."""
        return self.tpot.predict(0.0, in_flight) if self._pool.tpot.samples >= 1.0 else 0.0

    @property
    def reach(self) -> float:
        """Prompt tokens up to which samples lie, about: its own, or those of its pool."""
        return max(self.ttft.reach, self._pool.ttft.reach)

    def told(self, waiting: float | None, now: float) -> None:
        """Learn how many requests wait in the engine, by its own word."""
        self._queue.told(waiting, self.unbegun, now)

    def sent(self, tokens: int) -> None:
        """Learn that a prompt of so many tokens was sent."""
        self.prefilling += tokens
        self.unbegun += 1

    def prefilled(self, tokens: int) -> None:
        """Learn that it lies ahead of others no more."""
        self.prefilling -= tokens
        self.unbegun -= 1

    def began(self, sample: LatencySample, ttft: float) -> None:
        """Take a sample of a first token, after so many seconds."""
        if len(self._begun) < self._pool.samples:
            self._begun.append((sample, ttft))

    def finished(self, sample: LatencySample, tpot: float | None) -> None:
        """Take a sample of a complete answer, and its TPOT in seconds where it has one."""
        if len(self._finished) < self._pool.samples:
            self._finished.append((sample, tpot))

    def slowness(self, sample: LatencySample, tpot: float | None) -> float:
        """Return how many times longer an answer took than the pool expects, 0.0 where that is not known."""
        return self._pool.slowness(sample, tpot)

    def learn(self, residual: Residual, now: float) -> None:
        """Learn from the samples taken since the last tick, and tell by how much they were beyond what is expected."""
        if not (self._begun or self._finished):
            return
        pool, ttfts, tpots = self._pool, self._pool.ttft, self._pool.tpot
        if self._begun:
            pool.learnt_at = now
        for sample, seconds in self._begun:
            ttft, predicted = max(seconds, FLOOR), sample.predicted
            expected = ttfts.predict(sample.tokens, sample.in_flight)
            self.ttft.judge(predicted, ttft)
            self.ttft.observe(sample.tokens, sample.in_flight, min(ttft, SURPRISE * predicted), predicted)
            ttfts.observe(sample.tokens, sample.in_flight, min(ttft, SURPRISE * expected), expected)
            residual.ttft.add(ttft / expected)
        for sample, tpot in self._finished:
            residual.late.add(hit=pool.slowness(sample, tpot) > OUTLIER)
            if tpot is not None:
                expected = tpots.predict(0.0, sample.in_flight)
                tpots.observe(0.0, sample.in_flight, max(tpot, FLOOR), expected)
                self.tpot.judge(self.tpot.predict(0.0, sample.in_flight), max(tpot, FLOOR))
                self.tpot.observe(0.0, sample.in_flight, max(tpot, FLOOR), expected)
                residual.tpot.add(max(tpot, FLOOR) / expected)
        self._begun.clear()
        self._finished.clear()

    def tick(self, elapsed: float, now: float) -> None:
        """Let so many seconds pass until `now`."""
        self.ttft.refit(elapsed, lean_on=self._pool.ttft)
        self.tpot.refit(elapsed, lean_on=self._pool.tpot)
        self.foreign = self._queue.foreign(now)

    def forget(self) -> None:
        """Unlearn how fast it was: it is not any more."""
        self.ttft.forget()
        self.tpot.forget()
