"""Whether a step of the tour has happened, by what the gateway measured since it began, and what is said of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.cli.canary import phase_words
from gateway.cli.demo.figures import Figures, compare, less, quantile
from gateway.cli.demo.moment import ClassMoment, Moment
from gateway.cli.demo.table import milliseconds, percent
from gateway.cli.demo.tour.setting import CANDIDATE, OBJECTIVE, TARGET
from gateway.policy.canary.words import counted

Moments = Sequence[Moment]
"""From the beginning of a step until now; never empty."""

_STEADY_SECONDS = 8.0
_OVERLOAD_SECONDS = 10.0
_LATELY = 4.0
_FEWEST = 50
_CLEAR_BURN = 10.0
_CLEAR_SHARE = 0.3
_CLEAR_RETURN = 0.05
_NOTHING = ClassMoment(0, 0, {})


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether it happened as told, and the numbers, which are true in either case."""

    happened: bool
    words: str


def steady(moments: Moments) -> Finding:
    """Find that users get what the objective says, and how the engines share the work."""
    figures = compare(moments[-1].reading, moments[0].reading)
    met, words = _users(moments)
    shares = ", ".join(percent(each.share, digits=0) for each in figures.backends if each.share)
    return Finding(
        happened=met and figures.requests >= _FEWEST and figures.seconds >= _STEADY_SECONDS,
        words=f"{words} Half of the first tokens came within {milliseconds(figures.ttft_p50)}, 99 % within "
        f"{milliseconds(figures.ttft_p99)}. Shares of the engines: {shares}.",
    )


def moved_away(moments: Moments, engine: str) -> Finding:
    """Find that a backend burns its error budget and hardly gets any requests, while users keep their objective."""
    start, now = moments[0], moments[-1]
    met, words = _users(moments)
    burn = max(each.burn.get(engine, 0.0) for each in moments)
    before, lately = _share_so_far(start, engine), _share(_lately(moments), engine)
    moved = before is not None and lately is not None and lately <= before * _CLEAR_SHARE
    ejected = " (it is ejected)" if now.ejection.get(engine) == "ejected" else ""
    failed = counted(now.retries - start.retries, "failed attempt")
    return Finding(
        happened=met and moved and burn >= _CLEAR_BURN,
        words=f"The engine's burn rate rose to {burn:.0f}, where 1 spends the error budget exactly. Its share "
        f"fell from {percent(before, digits=0)} to {percent(lately, digits=0)}{ejected}. The gateway retried {failed} "
        f"at other engines. {words}",
    )


def batch_yields(moments: Moments) -> Finding:
    """Find that batch requests wait or are refused, and that interactive ones are not and keep their objective."""
    start, now = moments[0], moments[-1]
    met, words = _users(moments)
    waiting = max(_class(each, "batch").waiting for each in moments)
    shed, refused = (_class(now, name).shed - _class(start, name).shed for name in ("batch", "interactive"))
    waited = quantile(less(_class(now, "interactive").queued, _class(start, "interactive").queued), 0.99)
    return Finding(
        happened=met and not refused and waiting > 0 and shed > 0 and now.at - start.at >= _OVERLOAD_SECONDS,
        words=f"Up to {counted(waiting, 'batch request')} waited at once, and {shed} got 429 with Retry-After. "
        f"{str(refused) if refused else 'No'} interactive ones were refused, and 99 % of them waited less than "
        f"{milliseconds(waited)} for a slot. {words}",
    )


def back_in_service(moments: Moments, engine: str) -> Finding:
    """Find that a backend which was ejected, or spared, gets requests again."""
    state, share = moments[-1].ejection.get(engine, "unknown"), _share(_lately(moments), engine)
    returned = state in {"slow_start", "in_service"} and share is not None and share >= _CLEAR_RETURN
    return Finding(
        happened=returned,
        words=f"The engine's state is {state.replace('_', ' ')}, and its share {percent(share, digits=0)}. "
        f"{_users(moments)[1]}",
    )


def rolled_back(moments: Moments) -> Finding:
    """Find that the rollout which was started went back, and by which evidence."""
    rollout = moments[-1].rollout
    if not _ended(moments, "rolled_back"):
        return Finding(happened=False, words=_where(rollout))
    took = _time(rollout["since"]) - _time(rollout["started"])
    return Finding(
        happened=True,
        words=f"The gateway rolled {CANDIDATE} back {took:.0f} s after its start: {rollout['reason']}. "
        f"{_users(moments)[1]}",
    )


def promoted(moments: Moments) -> Finding:
    """Find that the rollout which was started went all the way, and how fast."""
    rollout = moments[-1].rollout
    if not _ended(moments, "promoted"):
        return Finding(happened=False, words=_where(rollout))
    began = _time(rollout["started"])
    shares = [
        f"{each['weight']:g} % after {_time(each['at']) - began:.0f} s"
        for each in rollout["history"]
        if each["weight"] and _time(each["at"]) >= began
    ]
    return Finding(
        happened=True,
        words=f"{CANDIDATE} had {', '.join(shares)}, and is promoted: {rollout['reason']}. {_users(moments)[1]}",
    )


def _users(moments: Moments) -> tuple[bool, str]:
    """Return whether interactive requests as a whole met the objective since the beginning, and that in words."""
    met, missed = (
        now.get(OBJECTIVE, 0) - start.get(OBJECTIVE, 0)
        for now, start in ((moments[-1].met, moments[0].met), (moments[-1].missed, moments[0].missed))
    )
    every = met + missed
    if not every:
        return False, "No interactive request was answered."
    if not missed:
        return True, f"All {counted(every, 'interactive request')} met the objective."
    kept = missed <= every * (1 - TARGET / 100)
    return kept, f"Of {counted(every, 'interactive request')} {missed:,} missed the objective."


def _lately(moments: Moments) -> Figures | None:
    """Return the figures of the last few seconds, None before there are as many."""
    now = moments[-1]
    earlier = [each for each in moments if each.at <= now.at - _LATELY]
    return compare(now.reading, earlier[-1].reading) if earlier else None


def _share(figures: Figures | None, backend: str) -> float | None:
    backends = () if figures is None else figures.backends
    return next((each.share for each in backends if each.name == backend), None)


def _share_so_far(moment: Moment, backend: str) -> float | None:
    attempts = {each.name: each.attempts for each in moment.reading.backends}
    every = sum(attempts.values())
    return attempts.get(backend, 0) / every if every else None


def _class(moment: Moment, name: str) -> ClassMoment:
    return moment.classes.get(name, _NOTHING)


def _ended(moments: Moments, phase: str) -> bool:
    """Return whether the rollout was started since the beginning, and ended in this phase."""
    before, now = moments[0].rollout, moments[-1].rollout
    return bool(now["started"] != before["started"]) and now["phase"] == phase


def _where(rollout: Mapping[str, Any]) -> str:
    return f"The rollout is in this state: {phase_words(rollout)}; {rollout['decision'] or rollout['reason']}."


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
