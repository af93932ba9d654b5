"""The steps of the tour: what is done, what is said, what is waited for."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from gateway.cli.demo.setting import NEXT
from gateway.cli.demo.tour.findings import (
    Finding,
    Moments,
    back_in_service,
    batch_yields,
    moved_away,
    promoted,
    rolled_back,
    steady,
)
from gateway.cli.demo.tour.scene import Scene
from gateway.cli.demo.tour.setting import BATCH_RATE, CANDIDATE, SLOTS, STABLE, TARGET, TOUR, UNDER

Act = Callable[[], Awaitable[None]]
_LATE = 1.5 * UNDER


async def nothing() -> None:
    """Leave everything as it is."""


@dataclass(frozen=True, slots=True)
class Step:
    """`words` are said and `begin` is done; `look` is asked until it happened, for `within` seconds; then `end`."""

    title: str
    words: str
    look: Callable[[Moments], Finding]
    within: float
    begin: Act = nothing
    end: Act = nothing


def steps_of(scene: Scene, engines: Mapping[str, list[str]]) -> tuple[Step, ...]:
    """Return the tour of these engines, by pool."""
    sick, others = urlsplit(engines["gpu"][0]).netloc, engines["gpu"][1:]
    return (
        Step(
            "Steady load",
            f"{TOUR.rate:g} chats per second go to {1 + len(others)} engines. The objective: {TARGET:g} % of them are "
            f"answered, and {TARGET:g} % have their first token within {UNDER:g} s.",
            steady,
            within=15,
        ),
        Step(
            "An engine browns out",
            f"From now on {sick} is half as fast, and fails 70 % of its requests.",
            partial(moved_away, engine=f"gpu/{sick}"),
            within=30,
            begin=partial(scene.set_faults, engines["gpu"][0], slow=2, error_rate=0.7),
            end=partial(scene.set_faults, engines["gpu"][0]),
        ),
        Step(
            "Overload",
            f"{BATCH_RATE:g} long batch requests per second come on top, far more than the "
            f"{SLOTS * len(engines['gpu'])} slots of the engines can take. {sick} is well again.",
            batch_yields,
            within=25,
            begin=scene.flood,
            end=scene.calm,
        ),
        Step(
            "The engine comes back",
            f"The batch requests are over. The gateway was not told that {sick} is well: single requests show it.",
            partial(back_in_service, engine=f"gpu/{sick}"),
            within=50,
        ),
        _bad_canary(scene, engines[NEXT][0]),
        Step(
            "A good canary",
            f"{CANDIDATE} is mended, and its rollout is started again: 25 %, 50 %, 95 %, all.",
            promoted,
            within=60,
            begin=partial(scene.steer, "start", "the tour starts a good version"),
        ),
    )


def _bad_canary(scene: Scene, engine: str) -> Step:
    async def begin() -> None:
        await scene.set_faults(engine, ttft_delay=_LATE)
        await scene.steer("start", "the tour starts a bad version")

    async def end() -> None:
        await scene.steer("rollback", "the tour goes on")
        await scene.set_faults(engine)

    return Step(
        "A bad canary",
        f"{CANDIDATE}, a new version, gets 25 % of the requests. Its first token takes {_LATE:g} s longer than that of "
        f"{STABLE}. An e-value of 100 is evidence enough: chance reaches that in at most 1 % of rollouts.",
        rolled_back,
        within=30,
        begin=begin,
        end=end,
    )
