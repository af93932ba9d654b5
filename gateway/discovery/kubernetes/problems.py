"""What can be wrong between the gateway and an API server, in one line for people, and how to set it right."""

import ssl
from math import isfinite
from typing import Any, Final

import httpx

from gateway.discovery.kubernetes.cluster import Cluster
from gateway.discovery.kubernetes.resources import Collection, Status
from gateway.discovery.one_line import one_line

_LONGEST_WAIT: Final = 60.0


class ApiError(Exception):
    """The API server did not tell what it was asked; `str` is the problem, for people.

    `retry_after` is how many seconds it wants to be left alone.
    """

    def __init__(self, problem: str, retry_after: float = 0.0) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class BrokenError(ApiError):
    """The connection to the API server broke, or there is none: what it told before still holds."""


class ExpiredError(ApiError):
    """The version is too old: the API server has forgotten what changed since (410). All must be listed again."""


def failure(
    cluster: Cluster, collection: Collection[Any], verb: str, status: Status, retry_after: float = 0.0
) -> ApiError:
    """Return the error for what the API server tells of a failure, in an answer or in a watch."""
    if status.code == httpx.codes.GONE:
        return ExpiredError(status.message)
    return ApiError(_refused(cluster, collection, verb, status), retry_after)


def _refused(cluster: Cluster, collection: Collection[Any], verb: str, status: Status) -> str:
    what = f"{collection.plural} in namespace {collection.namespace}"
    match status.code:
        case httpx.codes.UNAUTHORIZED:
            return f"the Kubernetes API server refuses {_credentials(cluster)} (401)"
        case httpx.codes.FORBIDDEN:
            return (
                f"the gateway may not {verb} {what} (403): its service account needs a RoleBinding there to a Role "
                f'with apiGroups ["{collection.group}"], resources ["{collection.plural}"], verbs [get, list, watch], '
                "as in deploy/kubernetes/discovery/rbac.yaml"
            )
        case httpx.codes.NOT_FOUND:
            api = "/".join(part for part in (collection.group, collection.version) if part)
            return f"the Kubernetes API server does not have {collection.plural} of {api} (404): {_needed(collection)}"
    said = one_line(status.message or status.reason)
    return f"the Kubernetes API server answered {status.code} when asked to {verb} {what}" + (said and f": {said}")


def _credentials(cluster: Cluster) -> str:
    if cluster.token_file is None:
        return "a request without a token: set --kubernetes-token-file, or use `kubectl proxy`"
    return (
        f"the token in {cluster.token_file}: in a pod, check serviceAccountName and that the account exists; "
        "elsewhere, renew the token"
    )


def _needed(collection: Collection[Any]) -> str:
    if collection.plural == "inferencepools":
        return "install the CRDs of the Gateway API Inference Extension, 1.0 or newer"
    return "Kubernetes 1.21 or newer is needed"


def unreachable(cluster: Cluster, error: httpx.HTTPError) -> str:
    """Say why the API server could not be reached, or what broke."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            trusted = cluster.ca_file or "the authorities of this system"
            return (
                f"the certificate of the Kubernetes API server at {cluster.url} cannot be verified with {trusted}: "
                f"{one_line(cause.verify_message)}"
            )
        cause = cause.__cause__ or cause.__context__
    said = one_line(str(error))
    named = type(error).__name__ + (said and f": {said}")
    if isinstance(error, httpx.ConnectError):
        return (
            f"the Kubernetes API server at {cluster.url} cannot be reached ({named}): check that it runs, "
            "and that network policies let the gateway connect to it"
        )
    return f"the connection to the Kubernetes API server at {cluster.url} broke ({named})"


def silent(cluster: Cluster, seconds: float) -> str:
    """Say that nothing came in time."""
    return f"the Kubernetes API server at {cluster.url} was silent for {seconds:.0f} s"


def ended(cluster: Cluster) -> str:
    """Say that a watch was over as soon as it began."""
    return f"the Kubernetes API server at {cluster.url} ended a watch at once"


def unreadable_file(cluster: Cluster, error: OSError) -> str:
    """Say which file of the account cannot be read. A deadline that passed is an OSError, too."""
    if isinstance(error, TimeoutError):
        return f"the Kubernetes API server at {cluster.url} did not answer in time"
    file = error.filename or cluster.ca_file
    return (
        f"{file} cannot be read ({one_line(error.strerror or str(error))}): in a pod it is mounted when "
        "automountServiceAccountToken is true"
    )


def unreadable(cluster: Cluster, why: str) -> str:
    """Say that the API server sent what cannot be read."""
    return f"the Kubernetes API server at {cluster.url} sent what cannot be read: {one_line(why)}"


def patience(status: Status, header: str | None) -> float:
    """Return how many seconds the API server wants to be left alone, a minute at most."""
    wanted: object = header if header is not None else status.details and status.details.retry_after_seconds
    try:
        seconds = float(wanted)  # type: ignore[arg-type]  # what is no number is refused below
    except (TypeError, ValueError):
        return 0.0
    return min(max(seconds, 0.0), _LONGEST_WAIT) if isfinite(seconds) else 0.0
