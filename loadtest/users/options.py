"""What a run is asked to do: the options that this folder adds to locust's own, and what they mean."""

import argparse
import shlex
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from loadtest.traces.formats import Arrival, read_trace
from loadtest.users.prompts import Spread
from loadtest.users.shapes import SHAPES

if TYPE_CHECKING:  # locust patches what it is imported into
    from locust.argument_parser import LocustArgumentParser

SAMPLE = Path(__file__).parents[1] / "traces" / "azure-sample.csv"
KEYS_VARIABLE = "LOADTEST_API_KEYS"
_SECRET_OPTIONS = ("--api-key",)


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """A tenant and its API key, which is never shown."""

    tenant: str = ""
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run's options, read; times in seconds. Every draw of the run comes from `seed`."""

    model: str
    prompt: Spread
    output: Spread
    think: Spread
    turns: Spread
    prefix_tokens: int
    keys: tuple[Key, ...]
    classes: tuple[str, ...]
    seed: int
    shape: str
    trace: Path
    speed: float
    rows: int | None
    admin: str
    record: Path | None
    timeout: float
    insecure: bool

    @classmethod
    def read(cls, options: Namespace) -> "Plan":
        """Return what the options say; raises ValueError."""
        return cls(
            model=options.model,
            prompt=Spread.parse(options.prompt_tokens),
            output=Spread.parse(options.output_tokens),
            think=Spread.parse(options.think_time),
            turns=Spread.parse(options.turns),
            prefix_tokens=int(options.prefix_tokens),
            keys=keys(options.api_key or "") or (Key(),),
            classes=tuple(filter(None, (options.service_class or "").replace(" ", "").split(","))) or ("",),
            seed=int(options.seed),
            shape=options.shape,
            trace=Path(options.trace or SAMPLE),
            speed=_speed(options.trace_speed),
            rows=int(options.trace_rows) if options.trace_rows else None,
            admin=(options.admin or "").rstrip("/"),
            record=Path(options.record) if options.record else None,
            timeout=float(options.answer_timeout),
            insecure=bool(options.insecure),
        )

    def arrivals(self, seconds: float | None) -> list[Arrival]:
        """Return what a run replays, at its speed, within its seconds; raises TraceError."""
        quick = (replace(row, at=row.at / self.speed) for row in read_trace(self.trace, limit=self.rows))
        return [row for row in quick if seconds is None or row.at <= seconds]

    def chance(self, *who: object) -> Random:
        """Return a source of chance that `who` has alone, the same in every run with this seed."""
        return Random(" ".join(map(str, (self.seed, *who))))


def keys(text: str) -> tuple[Key, ...]:
    """Read `TENANT=KEY,TENANT=KEY`, or one bare key; raises ValueError, whose message shows no key."""
    found = []
    for number, each in enumerate(filter(None, text.split(",")), start=1):
        tenant, equals, secret = each.partition("=")
        if not equals:
            tenant, secret = "", each
        if not secret:
            raise ValueError(f"key {number} is empty; right is TENANT=KEY,TENANT=KEY")
        found.append(Key(tenant.strip(), secret.strip()))
    return tuple(found)


def add_options(parser: "LocustArgumentParser") -> None:
    """Add them to locust's command line; those that a run may change show in its web UI."""
    group = parser.add_argument_group("Load on a Tidegate gateway, or on anything that speaks OpenAI's API")
    add: Callable[..., Any] = group.add_argument
    add("--model", default="demo-chat", help="Model to ask for.")
    add(
        "--shape",
        choices=SHAPES,
        default="steady",
        help="How many users when: --users is its peak, --run-time its length.",
    )
    add(
        "--prompt-tokens",
        default="lognormal:200,0.6",
        type=_checked(Spread.parse),
        help="As 200, 50-400, lognormal:200,0.6.",
    )
    add("--output-tokens", default="lognormal:60,0.5", type=_checked(Spread.parse), help="As --prompt-tokens.")
    add(
        "--think-time",
        default="0.5-1.5",
        type=_checked(Spread.parse),
        help="Seconds between an answer and the next request.",
    )
    add("--turns", default="2-6", type=_checked(Spread.parse), help="Turns of a conversation.")
    add("--prefix-tokens", type=int, default=1000, help="Tokens of the system prompt that all conversations share.")
    add("--service-class", default="", help="x-gateway-class, or several with commas: each user has one of them.")
    add("--seed", type=int, default=0, help="Another seed, other draws.")
    add(
        "--trace",
        default="",
        help="Azure or BurstGPT CSV, or Mooncake JSONL, for --shape replay; without it, the Azure sample.",
    )
    add("--trace-speed", default="1", type=_checked(_speed), help="Replay so many times as fast as it was.")
    add("--trace-rows", type=int, default=0, help="Replay the first so many requests; 0 for all.")
    add("--answer-timeout", type=float, default=120.0, help="Longest silence of an answer, in seconds.")
    for action in group._group_actions:  # noqa: SLF001 - argparse has no other way to list them
        action.include_in_web_ui = True
    private = {"include_in_web_ui": False}
    parser.add_argument(
        "--api-key",
        default="",
        env_var=KEYS_VARIABLE,
        type=_checked(keys),
        help="TENANT=KEY,TENANT=KEY or one key; each user has one of them.",
        **private,
    )
    parser.add_argument("--insecure", action="store_true", help="Take any certificate.", **private)
    parser.add_argument(
        "--admin", default="", help="URL of the gateway's admin listener, to record its metrics.", **private
    )
    parser.add_argument("--record", default="", help="Folder to write the recording into.", **private)


def command(arguments: list[str]) -> str:
    """Return a command line to show, without the keys in it."""
    shown, hide = ["locust"], False
    for argument in arguments[1:]:
        name, equals, _ = argument.partition("=")
        shown.append("..." if hide else f"{name}=..." if equals and name in _SECRET_OPTIONS else argument)
        hide = argument in _SECRET_OPTIONS
    return shlex.join(shown)


def _checked(read: Callable[[str], object]) -> Callable[[str], str]:
    """Return a type for argparse that refuses what `read` does, and keeps the text: workers are sent text."""

    def check(text: str) -> str:
        try:
            read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    return check


def _speed(text: str) -> float:
    speed = float(text)
    if not speed > 0:
        raise ValueError(f"{text!r} is no speed; right is a number above 0")
    return speed
