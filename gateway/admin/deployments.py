"""Deployments over HTTP: a CD system registers one when it promotes, and reads how far it has come."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Response
from pydantic import BaseModel, Field

from gateway.admin.protection import error
from gateway.admin.sent import Sent
from gateway.config.problems import suggest
from gateway.control.deployments import Deployment, Deployments
from gateway.errors import ModelNotFound

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "No such model, version or deployment."}}


class Registration(Sent):
    """What was deployed. With an `id` of the CD system's own, registering twice is registering once."""

    model: str
    version: str
    id: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = ""


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
        return _status(found)

    @router.get("")
    async def listed() -> list[DeploymentStatus]:
        """Return the latest deployments, the newest first."""
        return [_status(each) for each in reversed(list(deployments))]

    @router.get("/{identity}", response_model=DeploymentStatus, responses=_UNKNOWN)
    async def one(identity: str) -> DeploymentStatus | Response:
        """Return one deployment."""
        found = deployments.get(identity)
        if found is None:
            hint = suggest(identity[:64], [each.id for each in deployments], "known deployments")
            return error(404, "deployment_not_found", f"there is no deployment `{identity[:64]}`; {hint}")
        return _status(found)

    return router


def _status(deployment: Deployment) -> DeploymentStatus:
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
    )
