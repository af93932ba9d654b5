"""What is said of a rollout: durations, shares, how far a step has to go, and what helps one that stalls."""

from math import ceil, inf

from gateway.policy.canary.forecast import Traffic
from gateway.policy.canary.plan import OnStall, Plan


def span(seconds: float) -> str:
    """Return a duration as people say it: `48 s`, `8 min`, `3.2 h`, `2.0 days`."""
    for limit, unit, name in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if seconds < limit:
            return f"{seconds / unit:.1f} {name}" if name == "h" else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.1f} days"


def percent(share: float) -> str:
    """Return a share in percentage points, with as many digits as say something."""
    return f"{share * 100:.2g}" if share < 0.1 else f"{share * 100:.0f}"


def per_second(rate: float) -> str:
    """Return a rate of requests to about two digits: 0.25, 3.1 or 150 requests/s."""
    return f"{rate:,.0f} requests/s" if rate >= 10 else f"{rate:.2g} requests/s"


def counted(count: int, what: str) -> str:
    """Return a count with its noun: 1 request, 2,000 requests."""
    if count != 1:
        what = "copies" if what == "copy" else f"{what}s"
    return f"{count:,} {what}"


def no_stable(plan: Plan) -> str:
    """Say that a rollout waits until there is something to compare with again."""
    return f"waits: stable {plan.stable} has no ready backend"


def how_far(plan: Plan, share: float, traffic: Traffic) -> str:
    """Say how many more requests a step takes, and how long at this rate."""
    missing, seconds = max(1, traffic.missing(plan, share)), traffic.seconds(plan, share)
    requests = f"about {counted(_rounded(missing), 'more request')} of {plan.candidate}"
    if seconds == inf:
        return f"{requests}, and hardly any arrive"
    return f"{requests}, {span(seconds)} at this rate"


def stalls(plan: Plan, share: float, traffic: Traffic, predicted: float, held: float = 0.0) -> str:
    """Say that a step which has been held for so long will reach `max_hold` before it may end, "" if it will not.

    `predicted` is how long it was expected to take when it began.
    """
    needs, longest = held + traffic.seconds(plan, share), plan.longest(predicted)
    if not traffic.seconds(plan, share) or needs <= max(longest, plan.held_for(share)):
        return ""
    then = {
        OnStall.PAUSE: "then pauses",
        OnStall.PROMOTE: "then continues anyway",
        OnStall.ROLLBACK: "is then rolled back",
    }
    takes = "has no end in sight" if needs == inf else f"takes {span(needs)}"
    return f"the {share:g} % step {takes} and `max_hold` is {span(longest)}: the rollout {then[plan.on_stall]}"


def remedy(plan: Plan, share: float, traffic: Traffic, predicted: float, model: str) -> str:
    """Return what helps a rollout that paused after `max_hold`; to resume it helps only where a new hold is enough."""
    by_hand = f"tidegate canary promote {model}"
    resume = f"tidegate canary resume {model}"
    if not share or not stalls(plan, share, traffic, predicted):
        return resume
    seconds = traffic.seconds(plan, share)
    if seconds == inf:
        return f"{by_hand}, or tidegate canary rollback {model}: too few requests arrive to compare both"
    return f"set `max_hold` above {span(seconds)} (or a wider `margin`) in the routes, then {resume}; or {by_hand}"


def _rounded(count: int) -> int:
    """Return a count to two digits: more would pretend to know."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return ceil(count / unit) * unit
