"""Deployments over HTTP: a CD system registers one when it promotes, and reads how far it has come."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Response
from pydantic import AwareDatetime, BaseModel, Field

from gateway.admin.protection import error
from gateway.admin.sent import Sent
from gateway.config.problems import suggest
from gateway.control.deployment_record import RefusedReport, Report, StageResult
from gateway.control.deployments import Deployment, Deployments
from gateway.errors import ModelNotFound

_REFUSED: dict[int | str, dict[str, Any]] = {409: {"description": "It contradicts what is known."}}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "No such model, version or deployment."}}


class Registration(Sent):
    """What was deployed. With an `id` of the CD system's own, registering twice is registering once."""

    model: str
    version: str
    id: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = ""


class StageReport(Sent):
    """What a CD system did for a deployment. Times without a zone are refused; those left out are now."""

    stage: Literal["registry_pull", "image_pull", "provisioning", "validation"]
    result: StageResult = StageResult.RUNNING
    started: AwareDatetime | None = None
    ended: AwareDatetime | None = None
    reason: Annotated[str, Field(max_length=500)] = ""


class ReportedStatus(BaseModel):
    """A stage as the CD system reported it; null while it runs."""

    stage: str
    result: StageResult
    started: datetime
    ended: datetime | None
    seconds: float | None
    reason: str


class StageStatus(BaseModel):
    """A stage, and how many seconds after registration it was reached."""

    stage: str
    at: datetime
    seconds: float


class DeploymentStatus(BaseModel):
    """One deployment."""

    id: str
    model: str
    version: str
    actor: str
    result: str
    reason: str
    stages: list[StageStatus]
    reported: list[ReportedStatus]


def deployment_routes(deployments: Deployments) -> APIRouter:
    """Return the paths of deployments."""
    router = APIRouter(prefix="/admin/deployments")

    @router.post("", status_code=201, response_model=DeploymentStatus, responses=_UNKNOWN)
    async def register(
        registration: Annotated[Registration, Body()],
        x_gateway_actor: Annotated[str, Header()] = "admin API",
        traceparent: Annotated[str, Header(max_length=128)] = "",
    ) -> DeploymentStatus | Response:
        """Start the clock of a deployment; its trace goes on from `traceparent`."""
        name, version = registration.model, registration.version
        try:
            found = deployments.register(
                name, version, actor=x_gateway_actor, identity=registration.id, traceparent=traceparent
            )
        except ModelNotFound as unknown:
            return error(404, unknown.code, unknown.message)
        except KeyError:
            known = ", ".join(deployments.versions(name))
            words = f"the model `{name[:128]}` has no version `{version[:64]}`; there are {known}"
            return error(404, "version_not_found", words)
        return deployment_status(found)

    @router.get("")
    async def listed() -> list[DeploymentStatus]:
        """Return the latest deployments, the newest first."""
        return [deployment_status(each) for each in reversed(list(deployments))]

    @router.get("/{identity}", response_model=DeploymentStatus, responses=_UNKNOWN)
    async def one(identity: str) -> DeploymentStatus | Response:
        """Return one deployment."""
        found = deployments.get(identity)
        return _unknown(identity, deployments) if found is None else deployment_status(found)

    @router.patch("/{identity}", response_model=DeploymentStatus, responses=_UNKNOWN | _REFUSED)
    async def report(
        identity: str,
        report: Annotated[StageReport, Body()],
        x_gateway_actor: Annotated[str, Header()] = "admin API",
    ) -> DeploymentStatus | Response:
        """Report that a stage started, succeeded or failed. Reporting it twice is reporting it once."""
        started, ended = (None if at is None else at.timestamp() for at in (report.started, report.ended))
        told = Report(report.stage, report.result, started, ended, report.reason)
        try:
            return deployment_status(deployments.report(identity, told, actor=x_gateway_actor))
        except KeyError:
            return _unknown(identity, deployments)
        except RefusedReport as refused:
            return error(409, "report_refused", str(refused))

    return router


def _unknown(identity: str, deployments: Deployments) -> Response:
    hint = suggest(identity[:64], [each.id for each in deployments], "known deployments")
    return error(404, "deployment_not_found", f"there is no deployment `{identity[:64]}`; {hint}")


def deployment_status(deployment: Deployment) -> DeploymentStatus:
    """Return how far a deployment has come."""
    return DeploymentStatus(
        id=deployment.id,
        model=deployment.model,
        version=deployment.version,
        actor=deployment.actor,
        result=deployment.result,
        reason=deployment.reason,
        stages=[
            StageStatus(stage=stage, at=datetime.fromtimestamp(at, UTC), seconds=round(at - deployment.registered, 3))
            for stage, at in sorted(deployment.stages.items(), key=lambda item: item[1])
        ],
        reported=[
            ReportedStatus(
                stage=stage,
                result=each.result,
                started=datetime.fromtimestamp(each.started, UTC),
                ended=datetime.fromtimestamp(each.ended, UTC) if each.ended else None,
                seconds=round(each.ended - each.started, 3) if each.ended else None,
                reason=each.reason,
            )
            for stage, each in sorted(deployment.reported.items(), key=lambda item: item[1].started)
        ],
    )
