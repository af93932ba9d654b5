"""Replaying a trace: requests leave when the trace has them, whatever becomes of those before."""

import time

import gevent
from gevent.pool import Group
from locust import task
from locust.exception import StopUser

from loadtest.traces.formats import Arrival, read_trace
from loadtest.users.classes import GatewayUser
from loadtest.users.options import Plan
from loadtest.users.prompts import text
from loadtest.users.streaming import CHAT

LEAD = 1.0
"""Seconds from the start of a run to the first arrival, so that no worker is late for it."""


class ReplayUser(GatewayUser):
    """Sends a worker's part of a trace. There is one in each process; locust's other users are not needed beside it."""

    row = "replay"
    by_name = True

    @task
    def replay(self) -> None:
        """Send all of it, wait for the answers, and leave."""
        under_way = Group()
        try:
            if self.load.part is not None:
                for number, arrival in mine(arrivals(self.plan, self.load.seconds), self.load.part, self.load.parts):
                    due = self.load.began + LEAD + arrival.at
                    gevent.sleep(max(due - time.monotonic(), 0))
                    under_way.spawn(self._send, number, arrival, due)
            under_way.join()
        finally:
            under_way.kill()
        raise StopUser

    def _send(self, number: int, arrival: Arrival, due: float) -> None:
        prompt = text(arrival.prompt_tokens, self.plan.chance("replay", number))
        body = self.streamed(messages=[{"role": "user", "content": prompt}])
        self.ask(CHAT.path, body | {"max_tokens": arrival.output_tokens}, dialect=CHAT, due=due)


def arrivals(plan: Plan, seconds: float | None) -> list[Arrival]:
    """Return what a run replays, at its speed, within its seconds; raises TraceError."""
    rows = read_trace(plan.trace, limit=plan.rows)
    quick = (Arrival(row.at / plan.speed, row.prompt_tokens, row.output_tokens) for row in rows)
    return [row for row in quick if seconds is None or row.at <= seconds]


def mine(rows: list[Arrival], part: int, parts: int) -> list[tuple[int, Arrival]]:
    """Return every `parts`-th row from `part` on, with its number in the trace."""
    return list(enumerate(rows))[part::parts]
