"""How long deployments take: from a CD system's word that a version is out to its first answer to a user."""

import asyncio
import logging
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict

import httpx
import msgspec

from gateway.backends.backend import Backend
from gateway.clock import Clock
from gateway.control.audit import Audit
from gateway.control.deployment_record import Deployment, Report, Result, Stage, StageResult, kept, merged
from gateway.control.rollouts import RolloutController
from gateway.control.synthetic import answers, asking
from gateway.errors import ModelNotFound
from gateway.exchange import Exchange, Outcome
from gateway.policy.canary.rollout import Phase
from gateway.policy.slo.ledger import SloLedger
from gateway.proxy.current import CurrentTable
from gateway.proxy.live_version import LiveVersion
from gateway.state.store import Document
from gateway.telemetry.histogram import Histogram

_log = logging.getLogger(__name__)
INTERVAL = 0.25
KIND = "deployment"
__all__ = ["BUCKETS", "GIVEN_UP_AFTER", "INTERVAL", "KIND", "Deployment", "Deployments", "Result", "Stage"]
GIVEN_UP_AFTER = 3600.0
BUCKETS = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
_KEPT = 100
_FULL = 0.999


class Deployments:
    """Stamps what deployments have reached: by settled requests the first live answer, by a loop the other stages.

    What else a CD system does for a deployment it reports itself. `durations` are times to the first live answer by
    (model, result), `results` counts by the same, `reported` times of reported stages by (model, stage, result); `open`
    are the ids of those that are not over.
    """

    def __init__(
        self,
        ledger: SloLedger,
        current: CurrentTable,
        rollouts: RolloutController,
        audit: Audit,
        *,
        clock: Clock,
        over: Callable[[Deployment], None] | None = None,
    ) -> None:
        """Take a clock of seconds since the epoch, and whom to tell of deployments that are over."""
        self._over = over
        self.durations: defaultdict[tuple[str, str], Histogram] = defaultdict(lambda: Histogram(BUCKETS))
        self.results: Counter[tuple[str, str]] = Counter()
        self.reported: defaultdict[tuple[str, str, str], Histogram] = defaultdict(lambda: Histogram(BUCKETS))
        self._ledger = ledger
        self._current = current
        self._rollouts = rollouts
        self._audit = audit
        self._clock = clock
        self._all: dict[str, Deployment] = {}
        self._waiting: dict[str, Deployment] = {}
        self.open: set[str] = set()
        self._changed: set[str] = set()
        self._asking: dict[str, asyncio.Task[None]] = {}

    def __iter__(self) -> Iterator[Deployment]:
        return iter(self._all.values())

    def get(self, identity: str) -> Deployment | None:
        """Return a deployment by its id."""
        return self._all.get(identity)

    def register(
        self, model: str, version: str, *, actor: str, identity: str = "", traceparent: str = ""
    ) -> Deployment:
        """Start the clock; raises ModelNotFound, and KeyError for a version that the model does not have.

        A deployment of this id that is known already is returned as it is. One still on its way is superseded.
        """
        known = self._all.get(identity)
        if known is not None:
            return known
        live = self._current.table.model(model)
        live.versions[version]
        for other in list(self._all.values()):
            if other.model == live.name and not other.is_over:
                self._end(other, Result.SUPERSEDED, f"{version} was deployed")
        name = identity or secrets.token_hex(6)
        deployment = Deployment(name, live.name, version, actor, traceparent=traceparent)
        self._all[deployment.id] = deployment
        self.open.add(deployment.id)
        self._waiting[live.name] = deployment
        for oldest in list(self._all)[:-_KEPT]:
            del self._all[oldest]
            self.open.discard(oldest)
        self._stamp(deployment, Stage.REGISTERED)
        self._audit.record(actor, "register", f"deployment {deployment.id}", f"{live.name}/{version}")
        return deployment

    def report(self, identity: str, report: Report, *, actor: str) -> Deployment:
        """Take what a CD system reports of a stage of its own; the same report again changes nothing.

        Raises KeyError for a deployment that is not known, and RefusedReport, with the reason.
        """
        deployment = self._all[identity]
        known = deployment.reported.get(report.stage)
        found = merged(known, report, self._clock(), deployment.registered)
        if found == known:
            return deployment
        deployment.reported[report.stage] = found
        self._changed.add(deployment.id)
        if found.result is StageResult.RUNNING:
            return deployment
        seconds, result = found.ended - found.started, found.result
        self.reported[deployment.model, report.stage, result].observe(seconds)
        good = result is StageResult.SUCCEEDED
        self._ledger.count_deployment(deployment.model, seconds if good else None, report.stage)
        words = f"{deployment.model}/{deployment.version} after {seconds:.1f} s{found.reason and f': {found.reason}'}"
        self._audit.record(actor, f"{report.stage} {result}", f"deployment {deployment.id}", words)
        return deployment

    def versions(self, model: str) -> list[str]:
        """Return the versions of a model, or alias; raises ModelNotFound."""
        return list(self._current.table.model(model).versions)

    @property
    def watched(self) -> dict[str, Deployment]:
        """By model, the deployment that waits for its first answer to a user; always the same dictionary."""
        return self._waiting

    def weigh_first_token(self, exchange: Exchange) -> None:
        """Do nothing: an answer counts once it is whole."""

    def weigh_settled(self, exchange: Exchange) -> None:
        """Stamp the first answer that a user got from a version."""
        if exchange.outcome is not Outcome.OK or exchange.forced:
            return
        deployment = self._waiting.get(exchange.model)
        if deployment is None or deployment.version != exchange.version:
            return
        if Stage.FIRST_LIVE_ANSWER not in deployment.stages:
            self._stamp(deployment, Stage.FIRST_LIVE_ANSWER)
            self._end(deployment, Result.LIVE, "")

    def stages(self) -> dict[tuple[str, str, str], float]:
        """Return by (model, version, stage) the seconds from registration of each model's latest deployment."""
        latest = {deployment.model: deployment for deployment in self._all.values()}
        return {
            (model, each.version, stage): at - each.registered
            for model, each in latest.items()
            for stage, at in each.stages.items()
        }

    async def run(self) -> None:
        """Stamp stages until cancelled."""
        async with asking(self._asking) as client:
            while True:
                await asyncio.sleep(INTERVAL)
                self._follow_all(client)

    def documents(self) -> list[Document]:
        """Return what changed since the last call."""
        changed, self._changed = self._changed, set()
        return [
            Document(KIND, each, msgspec.json.encode(asdict(self._all[each])).decode())
            for each in changed
            if each in self._all
        ]

    def restore(self, documents: Iterable[Document]) -> None:
        """Take back what was kept over a restart."""
        found = []
        for document in documents:
            if document.kind == KIND:
                try:
                    found.append(kept(document.body, self._clock()))
                except (msgspec.DecodeError, ValueError):
                    _log.error("a saved deployment cannot be read", extra={"deployment": document.name})
        for deployment in sorted(found, key=lambda each: each.registered)[-_KEPT:]:
            self._all[deployment.id] = deployment
            if not deployment.is_over:
                self.open.add(deployment.id)
            if deployment.result is Result.RUNNING:
                self._waiting[deployment.model] = deployment

    def _follow_all(self, client: httpx.AsyncClient) -> None:
        for deployment in [self._all[each] for each in self.open if each in self._all]:
            if not deployment.is_over:
                self._follow(deployment, client)
            if deployment.result is Result.LIVE and not deployment.ended and Stage.FULL_WEIGHT in deployment.stages:
                deployment.ended = max(deployment.stages.values())
                self._changed.add(deployment.id)
            if deployment.is_over:
                self.open.discard(deployment.id)
                if self._over is not None:
                    self._over(deployment)

    def _follow(self, deployment: Deployment, client: httpx.AsyncClient) -> None:
        try:
            live = self._current.table.model(deployment.model)
            version = live.versions[deployment.version]
        except (KeyError, ModelNotFound):
            self._end(deployment, Result.GIVEN_UP, "it is no longer in the routes")
            return
        ready = [each for each in version.backends if each.serves(version.served_model) and each.models is not None]
        if ready and Stage.BACKENDS_READY not in deployment.stages:
            self._stamp(deployment, Stage.BACKENDS_READY)
        if ready and Stage.FIRST_SYNTHETIC_ANSWER not in deployment.stages and deployment.id not in self._asking:
            self._asking[deployment.id] = asyncio.create_task(self._ask(deployment, client, ready[0], version))
        if any(each is version and share >= _FULL for each, share in live.traffic.split.shares()):
            self._stamp(deployment, Stage.FULL_WEIGHT)
        self._end_if_over(deployment)

    def _end_if_over(self, deployment: Deployment) -> None:
        running = self._rollouts.get(deployment.model)
        rollout = running.rollout if running is not None and running.plan.candidate == deployment.version else None
        if rollout is not None and rollout.phase is Phase.ROLLED_BACK and rollout.since >= deployment.registered:
            self._end(deployment, Result.ROLLED_BACK, rollout.reason)
        elif deployment.result is Result.RUNNING and self._clock() - deployment.registered > GIVEN_UP_AFTER:
            self._end(deployment, Result.GIVEN_UP, f"no live answer within {GIVEN_UP_AFTER:g} s")

    async def _ask(
        self, deployment: Deployment, client: httpx.AsyncClient, backend: Backend, version: LiveVersion
    ) -> None:
        """Ask an engine something small, the way users do, and stamp its answer; a refusal is asked again later."""
        try:
            if await answers(client, backend, version.served_model):
                self._stamp(deployment, Stage.FIRST_SYNTHETIC_ANSWER)
                return
            await asyncio.sleep(1.0)
        except httpx.HTTPError:
            await asyncio.sleep(1.0)
        finally:
            self._asking.pop(deployment.id, None)

    def _stamp(self, deployment: Deployment, stage: Stage) -> None:
        if stage in deployment.stages:
            return
        now = deployment.stages[stage] = self._clock()
        self._changed.add(deployment.id)
        _log.info(
            "deployment %s",
            stage.replace("_", " "),
            extra={
                "deployment": deployment.id,
                "model": deployment.model,
                "version": deployment.version,
                "seconds": round(now - deployment.registered, 3),
            },
        )

    def _end(self, deployment: Deployment, result: Result, reason: str) -> None:
        """Count how it ended, once; one that had answered users and is rolled back later has failed as well."""
        before, deployment.result, deployment.reason = deployment.result, result, reason
        if self._waiting.get(deployment.model) is deployment:
            del self._waiting[deployment.model]
        self._changed.add(deployment.id)
        now = self._clock()
        if result is not Result.LIVE:
            deployment.ended = now
        if before is Result.LIVE and result is not Result.ROLLED_BACK:
            deployment.result = before
            return
        seconds = now - deployment.registered
        self.durations[deployment.model, result].observe(seconds)
        self.results[deployment.model, result] += 1
        if result is not Result.SUPERSEDED and before is Result.RUNNING:
            self._ledger.count_deployment(deployment.model, seconds if result is Result.LIVE else None)
        words = f"{deployment.model}/{deployment.version} after {seconds:.1f} s" + (f": {reason}" if reason else "")
        self._audit.record("tidegate", result, f"deployment {deployment.id}", words)
