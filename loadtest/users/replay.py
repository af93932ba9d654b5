"""Replaying a trace: requests leave when the trace has them, whatever becomes of those before."""

import time

import gevent
from gevent.pool import Group
from locust import task
from locust.exception import StopUser

from loadtest.traces.formats import Arrival
from loadtest.users.classes import GatewayUser
from loadtest.users.prompts import prompt_of
from loadtest.users.streaming import CHAT

LEAD = 1.0
"""Seconds from the start of a run to the first arrival, so that no worker is late for it."""


class ReplayUser(GatewayUser):
    """Sends a worker's part of a trace. There is one in each process; locust's other users are not needed beside it."""

    row = "replay"
    by_name = True

    def arrive(self) -> None:
        """At once: the trace says when to ask."""

    @task
    def replay(self) -> None:
        """Send all of it, wait for the answers, and leave."""
        under_way = Group()
        try:
            if self.load.part is not None:
                for number, arrival in mine(self.plan.arrivals(self.load.seconds), self.load.part, self.load.parts):
                    due = self.load.began + LEAD + arrival.at
                    prompt = prompt_of(arrival, number, self.plan.seed)
                    gevent.sleep(max(due - time.monotonic(), 0))
                    under_way.spawn(self._send, prompt, arrival.output_tokens, due)
            under_way.join()
        finally:
            under_way.kill()
        raise StopUser

    def _send(self, prompt: str, output_tokens: int, due: float) -> None:
        body = self.streamed(messages=[{"role": "user", "content": prompt}])
        self.ask(CHAT.path, body | {"max_tokens": output_tokens}, dialect=CHAT, due=due)


def mine(rows: list[Arrival], part: int, parts: int) -> list[tuple[int, Arrival]]:
    """Return every `parts`-th row from `part` on, with its number in the trace."""
    return list(enumerate(rows))[part::parts]
