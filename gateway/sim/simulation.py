"""One simulated server's parts, put together once and handed to its endpoints."""

import random
import time
from typing import Any
from zlib import crc32

from gateway.sim.delivery import Delivery
from gateway.sim.engine import Engine
from gateway.sim.errors import BUSY, ENGINE_DEAD, ApiError
from gateway.sim.faults import FaultBoard, Faults
from gateway.sim.metrics import Recorder
from gateway.sim.runner import Runner
from gateway.sim.settings import Settings


class Simulation:
    """Engine, faults and counters of one server; `run` must be running for tokens to come.

    `sleeps` and `wakes` count how often it was told to sleep and to wake up,
    `killed_asleep` the requests that it was sent meanwhile: the first kills it.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rng = random.Random(settings.seed)
        self.engine = Engine(settings.profile, random.Random(self.rng.getrandbits(64)))
        self.recorder = Recorder(
            self.engine, settings.models[0], adapters=len(settings.adapters), old_names=settings.old_metric_names
        )
        self.board = FaultBoard(time.monotonic, random.Random(self.rng.getrandbits(64)))
        self.runner = Runner(self.engine, self.recorder, time.monotonic, self._slowness)
        self.deliveries: set[Delivery] = set()
        self.sleeps = self.wakes = self.killed_asleep = 0
        self.fingerprint = f"vllm-{settings.version}-{crc32(repr(settings.models).encode(), settings.seed):08x}"

    @property
    def calls(self) -> int:
        """How many calls are waiting for the engine's answer."""
        return len(self.deliveries)

    @property
    def keep_alive(self) -> float | None:
        """Seconds between comments in a silent stream, None for none."""
        return self.settings.sse_keep_alive_interval

    def __repr__(self) -> str:
        return f"<Simulation {self.settings.models[0]} {self.engine!r} {self.calls} calls>"

    async def run(self) -> None:
        """Let the engine work until cancelled."""
        await self.runner.run()

    def check_up(self) -> None:
        """Raise the ApiError that this call meets because of a fault, if any."""
        if self.engine.sleep_level and not self.board.current.dead:
            self.killed_asleep += 1
            self.set_faults(Faults(dead=True))
        if self.board.current.dead:
            raise ApiError(500, ENGINE_DEAD)
        if not self.board.ready:
            raise ApiError(503, "The engine is not ready yet.")
        status = self.board.draw_error()
        if status is not None:
            raise ApiError(status, ENGINE_DEAD if status == 500 else f"Simulated error {status}.")

    def check_queue(self) -> None:
        """ApiError 503 when as many sequences wait as are allowed to."""
        most = self.settings.max_num_queued_reqs
        if most is not None and self.engine.queued >= most:
            self.recorder.rejected += 1
            raise ApiError(503, BUSY)

    def set_faults(self, faults: Faults) -> None:
        """Put faults in force; answers under way feel them as well."""
        self.board.set(faults)
        if faults.frozen:
            self.runner.moving.clear()
        else:
            self.runner.moving.set()
        if faults.dead:
            for delivery in list(self.deliveries):
                delivery.fail()

    def state(self) -> dict[str, Any]:
        """Return what the engine is doing, for tests and demonstrations."""
        engine, tally = self.engine, self.engine.tally
        return {
            "running": len(engine.running),
            "waiting": len(engine.waiting),
            "calls": self.calls,
            "kv_blocks_used": engine.blocks.used,
            "kv_blocks_total": engine.blocks.total,
            "kv_cache_usage": engine.kv_usage,
            "finished": tally.finished,
            "aborted": tally.aborted,
            "preemptions": tally.preemptions,
            "prompt_tokens": tally.prompt_tokens,
            "generation_tokens": tally.generation_tokens,
            "prefix_cache_queries": tally.prefix_queries,
            "prefix_cache_hits": tally.prefix_hits,
            "rejected": self.recorder.rejected,
            "ready": self.board.ready,
            "sleep_level": engine.sleep_level,
            "sleeps": self.sleeps,
            "wakes": self.wakes,
            "killed_asleep": self.killed_asleep,
        }

    def _slowness(self) -> float:
        return self.settings.time_scale * self.board.current.slow
