"""One run of the load, as one process takes part in it: alone, as a worker, or as the master who only watches."""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from typing import Any
from urllib.parse import quote

from locust.env import Environment
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from loadtest.report.recording import About, Objective, Recording
from loadtest.traces.formats import repeated
from loadtest.users.client import Client
from loadtest.users.lateness import Lateness
from loadtest.users.objective import chosen, not_judged, objective
from loadtest.users.options import Plan, command
from loadtest.users.recorder import LATE, Recorder, bucket
from loadtest.users.sampler import Sampler, fetch
from loadtest.users.shapes import events


class Load:
    """The plan of a run, the connections it goes over, and what is recorded of it.

    `part` of `parts` is which worker this is; a worker that came too late to have a part has None.
    """

    def __init__(self, environment: Environment) -> None:
        options = environment.parsed_options
        assert options is not None
        self.plan = Plan.read(options)
        self.began = time.monotonic()
        self.recorder = Recorder(environment, self.began)
        self.seconds: float | None = options.load_seconds
        runner = environment.runner
        self.parts = max(len(options.load_parts), 1)
        self.part: int | None = options.load_parts.get(runner.client_id) if isinstance(runner, WorkerRunner) else 0
        self._environment = environment
        self._client: Client | None = None
        self._watched = self.plan.admin if watches(environment) else ""
        self._objective = self._read_objective() if self._watched else None
        self._sampler = Sampler(self._watched, self.began) if self._watched else None
        self._lateness = Lateness() if isinstance(runner, LocalRunner) else None
        self._users: Counter[str] = Counter()

    @property
    def client(self) -> Client:
        """The connections of this process."""
        if self._client is None:
            host = self._environment.host or ""
            self._client = Client(host, timeout=self.plan.timeout, insecure=self.plan.insecure)
        return self._client

    def number(self, kind: str) -> str:
        """Return a name for the next user of a kind, which no other user of the run has."""
        self._users[kind] += 1
        return f"{kind}-{self.part}-{self._users[kind]}"

    def end(self) -> None:
        """Write what was recorded, where that is wanted; more may follow, then it is written again."""
        if self._sampler is not None:
            self._sampler.stop()
        if self._lateness is not None:
            self._lateness.stop()
        if self._client is not None:
            self._client.close()
        if self.plan.record is None or not watches(self._environment):
            return
        about = self._about(time.monotonic() - self.began)
        series = self._sampler.series if self._sampler else []
        Recording(about, self.recorder.requests, self.recorder.gaps, series).write(self.plan.record)

    def _about(self, seconds: float) -> About:
        options = self._environment.parsed_options
        assert options is not None
        peak = options.num_users or 1
        size = (
            f"{self.plan.trace.name} at {self.plan.speed:g} x" if self.plan.shape == "replay" else f"up to {peak} users"
        )
        about = About(
            title=f"Load test: {self.plan.shape}, {size}",
            command=command(sys.argv),
            seed=self.plan.seed,
            seconds=seconds,
            objective=Objective() if self._objective is None else objective(self._objective),
            events=tuple(events(self.plan.shape, self.seconds, peak)) if self.seconds else (),
            notes=tuple(self._notes()),
        )
        return replace(about, versions={**about.versions, "locust": metadata.version("locust")})

    def _read_objective(self) -> Mapping[str, Any] | None:
        try:
            told = json.loads(fetch(self._watched, f"/admin/models/{quote(self.plan.model, safe='')}/slo"))
        except (OSError, ValueError):
            return None
        return chosen(told["objectives"], self.plan.classes)

    def _notes(self) -> Iterator[str]:
        late = self._environment.stats.entries.get(("replay", LATE))
        if late is not None and late.num_requests:
            p50, p99 = (late.get_response_time_percentile(q) for q in (0.5, 0.99))
            yield (
                f"Requests were sent later than the trace has them by {p50:g} ms (p50), {p99:g} ms (p99), "
                f"{bucket(late.max_response_time):g} ms at most; times in the recording count from when they were due."
            )
        if self._objective is None:
            yield "The objective is the report's own; that of the gateway was not read. Its address is --admin."
        elif others := not_judged(self._objective):
            yield f"The gateway's objective also has targets that are not judged here: {', '.join(others)}."
        if self._lateness is not None:
            yield from self._lateness.notes()
        yield from self._cached()
        if self.parts > 1:
            yield f"{self.parts} workers; their clocks start when the master's first message reaches them."
        if self.recorder.left:
            yield f"{self.recorder.left} requests were in progress when the run ended; they are not counted."
        if self._sampler is not None and self._sampler.missed:
            yield f"The gateway's metrics could not be read {self._sampler.missed} times."

    def _cached(self) -> Iterator[str]:
        """Tell how much of the prompts engines found in their caches, and how much of a trace they could find."""
        told = [each for each in self.recorder.requests if each.cached_tokens is not None and each.prompt_tokens]
        if told:
            share = sum(each.cached_tokens or 0 for each in told) / sum(each.prompt_tokens for each in told)
            yield f"Engines found {100 * share:.1f} % of the prompt tokens of {len(told)} requests in their caches."
        if self.plan.shape == "replay" and (share := repeated(self.plan.arrivals(self.seconds))):
            yield f"The trace repeats {100 * share:.1f} % of its prompt tokens: one endless cache would find as many."


def watches(environment: Environment) -> bool:
    """Whether this process sees the whole run."""
    return isinstance(environment.runner, LocalRunner | MasterRunner)


def parts(environment: Environment) -> Mapping[str, int]:
    """Return which part of a run each worker has; {} without workers."""
    runner = environment.runner
    clients = sorted(client.id for client in runner.clients.ready) if isinstance(runner, MasterRunner) else ()
    return {client: number for number, client in enumerate(clients)}


def load_of(environment: Environment) -> Load:
    """Return the run that is in progress."""
    load: Load = environment.load  # type: ignore[attr-defined]
    return load
