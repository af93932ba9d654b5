"""What a run was worth: goodput, objectives met, and how fast the refused were told."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.policy.slo.judge import meets
from gateway.policy.slo.objective import Objective, Sli
from loadtest.admission.world import Guest, Overloaded
from loadtest.routing.world import Request


@dataclass(frozen=True)
class Figures:
    """Of the requests that arrived in a span: goodput in tokens a second, shares from 0 to 1, times in seconds.

    `met` is the share of interactive requests served that met the TTFT threshold; `refused` the share of all refused,
    `refusal_p99` how long those took to hear it who were refused early. `batch_share` is batch's of all tokens served.
    """

    goodput: float
    throughput: float
    served: int
    met: float
    refused: float
    refusal_p99: float
    batch_share: float
    preemptions: int


def figures(world: Overloaded, since: float, until: float) -> Figures:
    """Judge what arrived in a span; call it once what was let in has had time to end."""
    rows = [(request, world.guest(request)) for request in world.requests if since <= request.arrived < until]
    done = [(request, guest) for request, guest in rows if request.ended >= 0]
    good = [request for request, _ in done if _is_good(request, world.objective)]
    interactive = [request for request, guest in done if guest.service_class.name == "interactive"]
    threshold = world.objective.targets[Sli.TTFT]
    in_time = sum(r.first - r.arrived <= threshold.threshold(r.prompt) for r in interactive)
    refusals = sorted(guest.refused for _, guest in rows if guest.refused is not None)
    early = [seconds for seconds in refusals if seconds == 0.0]
    tokens = sum(request.prompt + request.output for request, _ in done)
    return Figures(
        goodput=sum(request.output for request in good) / (until - since),
        throughput=sum(request.output for request, _ in done) / (until - since),
        served=len(done),
        met=in_time / max(1, len(interactive)),
        refused=len(refusals) / max(1, len(rows)),
        refusal_p99=_p99(early),
        batch_share=_tokens(done, "batch") / max(1, tokens),
        preemptions=sum(server.engine.tally.preemptions for server in world.servers),
    )


def ttft_p99(world: Overloaded, since: float, until: float, *tenants: str) -> float:
    """Return the 99th percentile of the TTFT, in seconds, of what these tenants were served."""
    return _p99(
        sorted(
            request.first - request.arrived
            for request in world.requests
            if since <= request.arrived < until and request.first >= 0 and world.guest(request).tenant in tenants
        )
    )


def _is_good(request: Request, objective: Objective) -> bool:
    ttft, tpot = request.first - request.arrived, (request.ended - request.first) / max(1, request.output - 1)
    return meets(objective, ttft, tpot, request.prompt)


def _tokens(rows: Sequence[tuple[Request, Guest]], name: str) -> int:
    return sum(request.prompt + request.output for request, guest in rows if guest.service_class.name == name)


def _p99(ascending: Sequence[float]) -> float:
    return ascending[min(len(ascending) - 1, int(len(ascending) * 0.99))] if ascending else 0.0
