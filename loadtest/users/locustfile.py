"""`locust -f loadtest/users/locustfile.py`: load on a gateway, measured as its users experience it.

Name classes to run only those: `locust -f loadtest/users/locustfile.py ChatUser SessionUser`. docs/loadtest.md tells
the rest. Run it where `loadtest` is, in the root of the checkout.
"""

import sys
from collections.abc import Callable
from typing import Any

from locust import LoadTestShape, events, stats
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtest.users import recorder
from loadtest.users.classes import (
    ChatUser,
    CompletionsUser,
    EmbeddingsUser,
    MessagesUser,
    ResponsesUser,
    SessionUser,
)
from loadtest.users.client import Client
from loadtest.users.load import Load, load_of, parts, watches
from loadtest.users.options import Plan, add_options
from loadtest.users.replay import LEAD, ReplayUser
from loadtest.users.shapes import users

__all__ = [
    "ChatUser",
    "CompletionsUser",
    "EmbeddingsUser",
    "MessagesUser",
    "ReplayUser",
    "ResponsesUser",
    "SessionUser",
    "Shape",
]

_DEFAULT_SECONDS = 60.0
_LAST_ANSWERS = 60.0
_LAST_REPORTS = 10.0


class Shape(LoadTestShape):
    """Follows the shape that was asked for, then lets users finish what they began (`--stop-timeout`)."""

    use_common_options = True

    def reset_time(self) -> None:
        """Begin; raises TraceError."""
        super().reset_time()
        environment = self._environment
        options = environment.parsed_options
        assert options is not None
        self._plan = Plan.read(options)
        self._peak = options.num_users or 1
        limit = options.run_time or (None if self._plan.shape in ("steady", "replay") else _DEFAULT_SECONDS)
        self._replays = self._plan.shape == "replay"
        self._seconds: float | None = self._plan.arrivals(limit)[-1].at + LEAD if self._replays else limit
        named = options.user_classes or ()
        self._classes = (
            [ReplayUser]
            if self._replays
            else [
                each
                for each in environment.user_classes
                if each.__name__ in named or not getattr(each, "by_name", False)
            ]
        )
        options.load_seconds = self._seconds

    def tick(self) -> tuple[int, float, list[Any]] | None:
        """Return the users that there should be now, at once; None when the run is over."""
        at, seconds = self.get_run_time(), self._seconds
        runner = self._environment.runner
        assert runner is not None
        if seconds is not None and at >= seconds:
            last = _LAST_ANSWERS if self._replays else self._environment.stop_timeout + _LAST_REPORTS
            if not runner.user_count or at >= seconds + last:
                return None
        if self._replays:
            count = runner.worker_count if isinstance(runner, MasterRunner) else 1
        elif seconds is None:
            count = self._peak
        else:
            count = users(self._plan.shape, at, seconds, self._peak) if at < seconds else 0
        return count, float(max(self._peak, count)), self._classes

    @property
    def _environment(self) -> Environment:
        assert self.runner is not None
        return self.runner.environment


@events.init_command_line_parser.add_listener
def _options(parser: LocustArgumentParser) -> None:
    add_options(parser)


@events.init.add_listener
def _init(environment: Environment, **_: Any) -> None:
    stats.bucket_response_time = recorder.bucket  # type: ignore[assignment]
    if ReplayUser not in environment.user_classes:
        environment.user_classes.append(ReplayUser)
    options = environment.parsed_options
    assert options is not None
    options.load_parts, options.load_seconds = {}, None
    if isinstance(environment.runner, WorkerRunner):
        environment.events.report_to_master.add_listener(_report(environment))
        return
    environment.events.worker_report.add_listener(_reported(environment))
    try:
        plan = Plan.read(options)
        if plan.shape == "replay":
            plan.arrivals(options.run_time)
        if environment.host:
            Client(environment.host, timeout=plan.timeout).close()
    except ValueError as error:
        sys.exit(f"locustfile: {error}")
    environment.events.quit.add_listener(_end(environment))


@events.test_start.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    if watches(environment):
        assert environment.parsed_options is not None
        environment.parsed_options.load_parts = parts(environment)
    environment.load = Load(environment)  # type: ignore[attr-defined]


@events.test_stop.add_listener
def _stop(environment: Environment, **_: Any) -> None:
    load_of(environment).end()


def _end(environment: Environment) -> Callable[..., None]:
    """Workers' last reports come after a run's stop, so it is written once more."""

    def end(**_: Any) -> None:
        if hasattr(environment, "load"):
            load_of(environment).end()

    return end


def _report(environment: Environment) -> Callable[..., None]:
    def report(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001 - locust passes it by name
        if hasattr(environment, "load"):
            data["load"] = load_of(environment).recorder.take()

    return report


def _reported(environment: Environment) -> Callable[..., None]:
    def reported(client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG001 - locust passes it by name
        if "load" in data:
            load_of(environment).recorder.add(data["load"])

    return reported
