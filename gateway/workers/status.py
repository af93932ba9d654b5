"""What `/admin/status` says of a machine with several workers: the leading one's words, with the sums of all."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any

from gateway.admin.events import Event, latest
from gateway.admin.objective_state import Burner, whole
from gateway.policy.slo.contributions import PROMPT, TENANT

_SUMMED = ("in_flight", "client_connections")
_OF_LIMITS = ("used_here", "used_elsewhere", "heard_seconds")
_OF_BACKENDS = ("in_flight", "kv_tokens", "idle_connections")
_AGES = ("failed_seconds", "good_seconds")
_OWN_KINDS = (TENANT, PROMPT)


def merged(statuses: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the first status, the leader's, in which what each worker has for itself is the sum over all.

    What the dashboard shows is a status too, in which some parts are missing.
    """
    leader, others = statuses[0], statuses[1:]
    _add(leader, others, _SUMMED)
    for key, name, fields in (("backends", "id", _OF_BACKENDS), ("tenants", "name", ("in_flight",))):
        found = [{each[name]: each for each in other.get(key, ())} for other in others]
        for each in leader.get(key, ()):
            same = [other[each[name]] for other in found if each[name] in other]
            _add(each, same, fields)
            if key == "backends":
                _failing(each, [each, *same])
    _most_used(leader, others)
    _share_burners(leader, others)
    if "events" in leader:
        told = [Event(**each) for status in statuses for each in status.get("events", ())]
        leader["events"] = [each.model_dump(mode="json") for each in latest(told)]
    versions = [{(model["name"], each["name"]): each for model, each in _versions(other)} for other in others]
    for model, version in _versions(leader):
        same = [other[both] for other in versions if (both := (model["name"], version["name"])) in other]
        for each in same:
            _count(version["waiting"], each["waiting"])
            for service_class, tenants in each.get("waiting_tenants", {}).items():
                _count(version.setdefault("waiting_tenants", {}).setdefault(service_class, {}), tenants)
            for service_class, reasons in each["shed"].items():
                _count(version["shed"].setdefault(service_class, {}), reasons)
    return leader


def _share_burners(leader: dict[str, Any], others: Sequence[Mapping[str, Any]]) -> None:
    """Add up whose failures there were, as far as each worker counts them for itself: by tenant and by prompt."""
    told = [{_key(each): each for each in other.get("objectives", ())} for other in others]
    for objective in leader.get("objectives", ()):
        same = [objective, *(each[_key(objective)] for each in told if _key(objective) in each)]
        sums: dict[tuple[str, str], Burner] = {}
        for each in (burner for one in same for burner in one.get("burners", ()) if burner["kind"] in _OWN_KINDS):
            found = sums.setdefault((each["kind"], each["name"]), Burner(**each | {"bad": 0, "total": 0}))
            found.bad += each["bad"]
            found.total += each["total"]
        if sums:
            kept = [each for each in objective["burners"] if each["kind"] not in _OWN_KINDS]
            objective["burners"] = kept + [each.model_dump() for each in whole(sums.values(), objective["bad"]["1h"])]


def _key(objective: Mapping[str, Any]) -> tuple[str, str, str]:
    return objective["model"], objective["objective"], objective["sli"]


def _versions(status: Mapping[str, Any]) -> Iterable[tuple[dict[str, Any], dict[str, Any]]]:
    return ((model, version) for model in status["models"] for version in model["versions"])


def _add(total: dict[str, Any], others: Iterable[Mapping[str, Any]], fields: Iterable[str]) -> None:
    for other in others:
        for each in fields:
            total[each] += other[each]


def _failing(backend: dict[str, Any], workers: Sequence[Mapping[str, Any]]) -> None:
    """Add how often a backend failed in a row, and how long ago any worker last saw it fail, or answer well.

    A worker of an earlier release does not tell.
    """
    backend["failed_in_a_row"] = sum(each.get("failed_in_a_row", 0) for each in workers)
    for age in _AGES:
        backend[age] = min((each[age] for each in workers if each.get(age) is not None), default=None)


def _count(total: dict[str, int], other: Mapping[str, int]) -> None:
    for name, count in other.items():
        total[name] = total.get(name, 0) + count


def _most_used(leader: dict[str, Any], others: Iterable[Mapping[str, Any]]) -> None:
    """Take what is known of the use of a limit from the worker that has heard most of it; the rest all know."""
    shown = _limits(leader)
    for other in others:
        for both, each in _limits(other).items():
            if (own := shown.get(both)) is not None and _heard(each) < _heard(own):
                own |= {key: each[key] for key in _OF_LIMITS}


def _limits(status: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    quotas = status.get("state", {}).get("quotas") or {}
    return {(each["tenant"], each["limit"]): each for each in quotas.get("limits", ())}


def _heard(limit: Mapping[str, Any]) -> float:
    seconds = limit["heard_seconds"]
    return inf if seconds is None else float(seconds)
