"""Names that a gateway knows: models, versions, backends, pools and tenants, which the Tab key completes."""

from typing import Annotated, Any

import typer

from gateway.cli.asking import ADMIN, NoAnswerError, answer_of

_SECONDS = 1.0
"""How long the Tab key waits for a gateway."""


def models(context: typer.Context, incomplete: str) -> list[str]:
    """Return the models of the gateway, with their aliases."""
    found = _status(context).get("models", ())
    return _those([name for each in found for name in (each["name"], *each["aliases"])], incomplete)


def models_of_slo(context: typer.Context, incomplete: str) -> list[str]:
    """Return what may follow `tidegate slo`: a model, or another command."""
    return [*models(context, incomplete), *_those(["suggest"], incomplete)]


def versions(context: typer.Context, incomplete: str) -> list[str]:
    """Return the versions of the model that is named already."""
    named = context.params.get("model")
    found = (each for each in _status(context).get("models", ()) if named in {each["name"], *each["aliases"]})
    return _those([version["name"] for each in found for version in each["versions"]], incomplete)


def backends(context: typer.Context, incomplete: str) -> list[str]:
    """Return the backends of the gateway."""
    return _those([each["id"] for each in _status(context).get("backends", ())], incomplete)


def pools(context: typer.Context, incomplete: str) -> list[str]:
    """Return the pools that want replicas."""
    return _those([each["pool"] for each in _status(context).get("capacity", ())], incomplete)


def tenants(context: typer.Context, incomplete: str) -> list[str]:
    """Return the tenants of the routes."""
    return _those([each["name"] for each in _status(context).get("tenants", ())], incomplete)


def _those(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _status(context: typer.Context) -> dict[str, list[dict[str, Any]]]:
    """Return what the gateway tells, nothing where it does not answer: the Tab key has no place for a message."""
    try:
        found = answer_of(context.params.get("admin") or ADMIN, "GET", "/admin/status", timeout=_SECONDS)
    except NoAnswerError:
        return {}
    return found if isinstance(found, dict) else {}


Model = Annotated[str, typer.Argument(metavar="MODEL", help="Model, as the routes name it.", autocompletion=models)]
ModelOrAlias = Annotated[str, typer.Argument(metavar="MODEL", help="Model or alias.", autocompletion=models)]
BackendId = Annotated[
    str,
    typer.Argument(
        metavar="BACKEND", help="Backend, as `tidegate status` names it: pool/host:port.", autocompletion=backends
    ),
]
Pool = Annotated[str, typer.Argument(metavar="POOL", help="Pool, as the routes name it.", autocompletion=pools)]
