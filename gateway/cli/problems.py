"""What a person should look at in a running gateway, and the command that helps: read from its own status."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.policy.slo.words import duration

FEWEST_FAILURES, HOUR = 5, 3600.0
"""How many requests in a row fail before that is a problem, and for how many seconds after the last of them."""
FEWEST_ATTEMPTS = 3
"""The same of attempts at one backend, while requests of its models are answered elsewhere."""

_NAMES = 3
"""Models that are named of one engine."""
_OLD_SECONDS = 10.0
"""How old the counts of other gateways may be: they are read every second."""
_WRONG_SECONDS = 10.0
"""How far a gateway's time may be from the server's."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong, in words, and what to do about it."""

    what: str
    command: str


def problems(found: dict[str, Any]) -> list[Problem]:
    """Return what is wrong in an answer of `/admin/status`, the gravest first."""
    return [
        *_alerts(found),
        *_failures(found),
        *_budgets(found),
        *_models(found),
        *_backends(found),
        *_origins(found),
        *_routes(found),
        *_state(found),
        *_workers(found),
        *_rollouts(found),
        *_capacity(found),
    ]


def _workers(found: dict[str, Any]) -> Iterator[Problem]:
    """Yield the workers whose routes are not those of the others, and an upgrade that failed."""
    for each in found.get("workers", ()):
        if each["problem"]:
            what = f"worker {each['pid']} goes on with old routes: {each['problem']}"
            yield Problem(what, f"kill {each['pid']}, so that another worker takes its place")
    if found.get("upgrade", "").startswith("failed"):
        yield Problem(f"the upgrade {found['upgrade']}", "see what the new workers said in the gateway's log")


def notes(found: dict[str, Any]) -> list[str]:
    """Return what explains the rest, and needs nothing done."""
    pools = pools_without_ejections(found)
    unready = {each["pool"] for each in found["backends"] if each["state"] == "not_ready"}
    cause = ", so the load or the gateway is the likely cause"
    ignored = [
        f"ejections in pool {name} are ignored: {why}{'' if name in unready else cause}" for name, why in pools.items()
    ]
    tried = [
        f"{each['id']} is being tested with one request at a time: it {each['ejection_reason']}"
        for each in found["backends"]
        if each["ejection"] == "half_open" and not each["drained"] and each["state"] == "ready"
        if each["pool"] not in pools
    ]
    return ignored + tried


def pools_without_ejections(found: dict[str, Any]) -> dict[str, str]:
    """Return the pools whose ejections are ignored at the moment, and why."""
    return {each["name"]: each["ejections_ignored"] for each in found.get("pools", ()) if each["ejections_ignored"]}


def alert_words(alert: dict[str, Any]) -> str:
    """Return what an alert that fires says, and what belongs to it."""
    also = f" It includes: {'; '.join(alert['also'])}." if alert.get("also") else ""
    return f"{alert['summary']}. {alert['description']}{also}"


def _alerts(found: dict[str, Any]) -> Iterator[Problem]:
    for alert in sorted(found.get("alerts", ()), key=lambda each: each["severity"]):
        since = alert["since"][:16].replace("T", " ")
        what = f"{alert['severity']} since {since} UTC: {alert_words(alert)}"
        yield Problem(what, f"tidegate slo {alert['model']}")
        if alert["notified"] == "failed":
            yield Problem("the alert webhook did not accept this alert", "see `alert webhook` in the gateway's log")


def _failures(found: dict[str, Any]) -> Iterator[Problem]:
    """Yield the models whose last requests all failed, before an alert is certain enough to say so."""
    for each in found.get("objectives", ()):
        failed, ago = each.get("bad_in_a_row", 0), each.get("last_seconds")
        is_recent = ago is not None and ago <= HOUR
        if each["sli"] == "availability" and failed >= FEWEST_FAILURES and is_recent and not each["alert"]:
            requests = f"the last {failed:,} requests of {each['model']} ({each['objective']})"
            what = f"{requests} all failed, the latest {duration(max(1.0, ago))} ago"
            yield Problem(what, f"tidegate slo {each['model']}; the gateway's log has each with its reason")


def _budgets(found: dict[str, Any]) -> Iterator[Problem]:
    for each in found.get("objectives", ()):
        left = each["budget"]["left"]
        if left is not None and left < 0 and not each["alert"]:
            what = f"{each['sli']} of {each['model']} ({each['objective']}): {each['budget']['words']}"
            yield Problem(what, f"tidegate slo {each['model']}")


def _models(found: dict[str, Any]) -> Iterator[Problem]:
    """Yield the versions that get requests though none of their backends can take one."""
    pools: dict[str, list[dict[str, Any]]] = {}
    for backend in found["backends"]:
        pools.setdefault(backend["pool"], []).append(backend)
    at_zero = _at_zero(found)
    for model in found["models"]:
        for version in model["versions"]:
            behind = [backend for pool in version["pools"] for backend in pools.get(pool, ())]
            others = [each for each in behind if not _is_out(each) and not _lists(each, version)]
            if version["weight"] > 0 and all(_is_out(each) or each in others for each in behind):
                drained = [each["id"] for each in behind if each["drained"] and each["state"] != "not_ready"]
                if not (drained or others) and not at_zero.isdisjoint(version["pools"]):
                    continue
                what = f"{model['name']}/{version['name']} has no ready backend{_instead(version, behind)}"
                what += _misnamed(version, others)
                is_unknown = all(each.get("leaving") or _is_found(found, each["pool"]) for each in behind)
                ask = _ask(found, model["name"] if is_unknown else "")
                command = f"tidegate undrain {drained[0]}" if drained else ask
                yield Problem(what, command)


def _misnamed(version: dict[str, Any], others: list[dict[str, Any]]) -> str:
    """Say that a backend is ready, but serves the model under another name; "" where there is none."""
    if not others:
        return ""
    names = ", ".join(sorted(others[0]["models"])[:_NAMES]) or "no model"
    return f"; {others[0]['id']} serves {names}, not {version['served_model']} (see `served_model` in the routes)"


def _is_found(found: dict[str, Any], pool: str) -> bool:
    """Whether backends of a pool are found: the doctor asks only those that the routes name."""
    return any(pool in each["pools"] for each in found.get("discovery", ()))


def _ask(found: dict[str, Any], model: str) -> str:
    """Return the command that tells more: of a model whose backends the doctor does not ask, if there is one."""
    return f"tidegate explain --model {model}" if model else f"tidegate doctor {_source(found)}"


def _ask_of(found: dict[str, Any], pool: str) -> str:
    """Return the command that tells more of a backend of a pool."""
    models = [each["name"] for each in found["models"] if any(pool in version["pools"] for version in each["versions"])]
    return _ask(found, models[0] if models and _is_found(found, pool) else "")


def _at_zero(found: dict[str, Any]) -> frozenset[str]:
    """Return the pools that have no engine to serve requests, and have one started when some come."""
    serving = {each["pool"] for each in found["backends"] if each["state"] != "not_ready" and not each.get("leaving")}
    scaling = (each["name"] for each in found.get("pools", ()) if each.get("scales_from_zero"))
    return frozenset(name for name in scaling if name not in serving)


def _is_out(backend: dict[str, Any]) -> bool:
    return bool(backend["drained"] or backend.get("leaving") or backend["state"] == "not_ready")


def _instead(version: dict[str, Any], behind: list[dict[str, Any]]) -> str:
    """Return what becomes of the requests of a version without a ready backend, "" where an older gateway is silent."""
    if "instead" not in version or any("silent" not in each for each in behind):
        return ""
    if version["instead"]:
        return f": its requests go to {version['instead']}"
    if any(each["silent"] and _lists(each, version) for each in behind):
        return ": its probes time out; requests are still sent"
    return ": its requests get 503"


def _lists(backend: dict[str, Any], version: dict[str, Any]) -> bool:
    """Whether a backend gets new requests, and serves the model of a version as far as it tells."""
    is_away = backend["drained"] or backend.get("leaving")
    return not is_away and (backend["models"] is None or version["served_model"] in backend["models"])


def _backends(found: dict[str, Any]) -> Iterator[Problem]:
    ignored, at_zero = pools_without_ejections(found), _at_zero(found)
    for each in found["backends"]:
        if each["drained"] or each.get("leaving"):
            continue
        if each["state"] == "not_ready" and each["pool"] not in at_zero:
            what = f"{each['id']} is not ready: {each['reason']}"
            yield Problem(
                what, f"{_ask_of(found, each['pool'])}; to take it out of service: tidegate drain {each['id']}"
            )
        if each["ejection"] == "ejected":
            gets = ", but still gets requests" if each["pool"] in ignored and each["state"] == "ready" else ""
            what = f"{each['id']} is ejected{gets}: {each['ejection_reason']}"
            yield Problem(
                what, f"it returns once it answers correctly again; to keep it out: tidegate drain {each['id']}"
            )
        elif each["ejection"] == "in_service" and each["state"] != "not_ready" and _fails_alone(found, each):
            failed, ago = f"{each['failed_in_a_row']:,}", duration(max(1.0, each["failed_seconds"]))
            what = f"the last {failed} attempts at {each['id']} all failed, the latest {ago} ago"
            yield Problem(
                what, f"see the log of this engine, and the gateway's; to take it out: tidegate drain {each['id']}"
            )


def _fails_alone(found: dict[str, Any], backend: dict[str, Any]) -> bool:
    """Whether each of a backend's last attempts failed, but not each request of a model meanwhile: retries hide it.

    One request that no engine can answer, and that its client repeats, is no fault of the backend.
    """
    failed, ago, good = backend.get("failed_in_a_row", 0), backend.get("failed_seconds"), backend.get("good_seconds")
    if failed < FEWEST_ATTEMPTS or ago is None or ago > HOUR or (good is not None and good < ago):
        return False
    names = {
        model["name"]
        for model in found["models"]
        if any(backend["pool"] in version["pools"] for version in model["versions"])
    }
    return any(
        each["model"] in names and each["last_seconds"] is not None and each["bad_in_a_row"] < failed
        for each in found.get("objectives", ())
        if each["sli"] == "availability"
    )


def _origins(found: dict[str, Any]) -> Iterator[Problem]:
    for each in found.get("discovery", ()):
        if each["problem"]:
            count, pools = each["targets"], ", ".join(each["pools"])
            stays = f"its last {count} stay{'s' * (count == 1)} in use" if count else "it has named no backend"
            what = f"{each['origin']}, for pool {pools}: {each['problem']}; {stays}"
            yield Problem(what, "fix it there or in the routes: the gateway keeps asking (docs/discovery.md)")


def _routes(found: dict[str, Any]) -> Iterator[Problem]:
    for problem in found["routes"]["problems"]:
        what = f"the route files were not applied, and the previous routes stay in use: {problem}"
        yield Problem(what, f"fix the file, then: tidegate check {_source(found)}")


def _state(found: dict[str, Any]) -> Iterator[Problem]:
    state = found.get("state", {})
    fleet = state.get("fleet") or {}
    is_server = state.get("where", "").startswith(("redis", "valkey"))
    read = state.get("read_seconds")
    if fleet.get("recovering"):
        what = f"the state was lost in {state['where']}: what gateways had there is being restored"
        yield Problem(what, "it takes about 10 s; docs/fleet.md says what comes back")
    elif state.get("not_saved"):
        stands = "; rollouts stand still" if is_server and not state.get("leads") else ""
        what = f"the state cannot be saved, and counts wait in memory{stands}: {state['not_saved']}"
        of_server = "docs/fleet.md says what the server needs; requests go on, and saving is retried every second"
        of_file = (
            "free some space, or let the gateway's user write the file and its folder; saving is retried every second"
        )
        yield Problem(what, of_server if is_server else of_file)
    elif read is not None and read > _OLD_SECONDS:
        what = f"{state['where']} is slow: what other gateways count was last read {duration(read)} ago"
        yield Problem(what, "see tidegate_fleet_save_duration_seconds, and how busy the server and the network are")
    if abs(ahead := fleet.get("clock_seconds", 0.0)) > _WRONG_SECONDS:
        apart = f"{duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'}"
        what = f"the time of this gateway is {apart} the server's"
        yield Problem(what, "set the machine's clock, then restart the gateway: its counts are of other times")
    quotas = state.get("quotas") or {}
    if quotas.get("problem") and quotas["alone"] and not state.get("not_saved"):
        what = f"tenants' limits are not shared with other machines: {quotas['problem']}"
        yield Problem(what, "docs/fleet.md says what the server needs, and what each machine admits meanwhile")
    if state.get("shared"):
        own = (
            "keys of its own: add ?prefix=NAME to --state" if is_server else "a file of its own: --state sqlite:///FILE"
        )
        yield Problem(state["shared"], f"restart this gateway with {own}")


def _rollouts(found: dict[str, Any]) -> Iterator[Problem]:
    for each in found.get("rollouts", ()):
        if each.get("failing"):
            remedy = f"tidegate canary report {each['model']}, or tidegate canary rollback {each['model']}"
            yield Problem(f"the rollout of {each['model']}: {each['failing']}", remedy)
        if each["phase"] == "paused":
            versions = f"{each['stable']} -> {each['candidate']}"
            what = f"the rollout of {each['model']} ({versions}) is paused at {each['weight']:g} %: {each['reason']}"
            model = each["model"]
            remedy = each.get("command") or f"tidegate canary resume {model}, or tidegate canary rollback {model}"
            yield Problem(what, remedy)


def _capacity(found: dict[str, Any]) -> Iterator[Problem]:
    """Yield the pools whose want waits for a person, or was known once and is not any more."""
    for each in found.get("capacity", ()):
        pool, unit = each["pool"], each["unit"]
        if each["awaits"] is not None:
            what = f"pool {pool} wants {each['awaits']} {unit}, and more than {each['target']} need approval"
            yield Problem(what, f"tidegate capacity approve {pool}, or tidegate capacity reject {pool}")
        elif each["problem"] and each["intent"]:
            what = f"it is not known how many {unit} pool {pool} wants: {each['problem']}"
            yield Problem(what, "see the log of the gateway that leads; KEDA falls back meanwhile")


def _source(found: dict[str, Any]) -> str:
    sources = found["routes"]["sources"]
    return sources[0] if len(sources) == 1 else "ROUTES"
