"""What `/admin/explain` tells: where a request would go now, and why."""

from pydantic import BaseModel

from gateway.policy.routing.choose import Considered


class CandidateStatus(BaseModel):
    """One backend as a candidate: `refused` says why it would get no request, "" when it may.

    Prediction and score are null for one that is ejected, drained, not ready, or does not serve the model: they decide
    nothing. `extrapolated` says that the prediction is for many more tokens than any sample had; `routing_burn` is
    smoothed, and 1 without traffic.
    """

    backend: str
    refused: str
    predicted_ttft_seconds: float | None
    extrapolated: bool
    weight: float
    score: float | None
    routing_burn: float
    in_flight: int
    prefilling_tokens: int


class VersionDecision(BaseModel):
    """What would be decided for one version; the winner is null where there is none to choose."""

    version: str
    share: float
    candidates: list[CandidateStatus]
    winner: str | None
    why: str


class Decision(BaseModel):
    """Where a request for a model would go now, version by version."""

    model: str
    prompt_tokens: int
    service_class: str
    versions: list[VersionDecision]


def candidate(considered: Considered) -> CandidateStatus:
    """Return a candidate as people read it: seconds to a tenth of a millisecond."""
    return CandidateStatus(
        backend=considered.id,
        refused=considered.refused,
        predicted_ttft_seconds=round(considered.predicted_ttft, 4) if considered.scored else None,
        extrapolated=considered.extrapolated and considered.scored,
        weight=round(considered.weight, 4),
        score=round(considered.score, 4) if considered.scored else None,
        routing_burn=round(considered.burn, 4),
        in_flight=considered.in_flight,
        prefilling_tokens=considered.prefilling,
    )
