"""The ledger of SLIs: who counts for what, over reloads and restarts, when several objectives hold at once."""

from dataclasses import replace

from gateway.backends.registry import Registry
from gateway.config.table import BackendSpec, ModelSpec, PoolSpec, RouteTable, VersionSpec
from gateway.exchange import AttemptEnd, Exchange, Outcome
from gateway.lateness import Lateness
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import DEFAULT, Objective, Sli, Target
from gateway.policy.slo.series import Kind, SeriesKey, SlotCounts
from gateway.policy.slo.windows import MINUTE
from gateway.telemetry.slo_recorder import SloRecorder, follow
from gateway.wire.outbox import Outbox
from tests.attempts import attempted

FAST = Objective(
    "fast", {Sli.AVAILABILITY: Target(0.999), Sli.TTFT: Target(0.99, 0.5, ((100, 5.0),)), Sli.ITL: Target(0.99, 0.05)}
)
SLOW = Objective("slow", {Sli.AVAILABILITY: Target(0.99), Sli.E2E: Target(0.95, 60.0)})
BACKEND = BackendSpec("p", "http://e:1", "e", 1)


def model(name: str, *pools: str, objective: Objective = FAST, **by_class: Objective) -> ModelSpec:
    versions = {"v1": VersionSpec("v1", pools or ("p",), name)}
    return ModelSpec(name, versions, (("v1", 1.0),), objective=objective, objective_by_class=by_class)


def table(*models: ModelSpec) -> RouteTable:
    named = {each.name: each for each in models}
    return RouteTable(pools={"p": PoolSpec("p", (BACKEND,))}, models=named, names=named)


class Town:
    """A ledger on a clock that is set by hand, and one backend."""

    def __init__(self, *models: ModelSpec) -> None:
        self.now = 1_700_000_000.0
        self.ledger = SloLedger(self.now)
        self.recorder = SloRecorder(self.ledger)
        registry = Registry(Outbox(), lambda: self.now, Lateness())
        registry.reconcile(table(*models))
        (self.backend,) = registry
        self.follow(*models)

    def follow(self, *models: ModelSpec) -> None:
        follow(self.ledger, table(*models), self.now)

    def serve(self, name: str = "m", objective: str = "fast", *, ttft: float = 0.1, gaps: tuple[int, ...] = ()) -> None:
        """Answer one stream."""
        exchange = Exchange("r", "/v1/chat/completions", self.now)
        exchange.model, exchange.version, exchange.objective = name, "v1", objective
        exchange.stream, exchange.outcome, exchange.output_tokens = True, Outcome.OK, 7
        exchange.first_content = self.now + ttft
        exchange.last_content = exchange.ended = self.now + ttft + 1.0
        exchange.attempts = [attempted(self.now, exchange.ended)]
        exchange.itl_bounds, exchange.itl = (0.05, 0.1), list(gaps)
        self.recorder.on_attempt_ended(exchange, self.backend, AttemptEnd.OK)
        self.recorder.on_settled(exchange)

    def counted(self, kind: Kind, name: str) -> dict[tuple[str, str], tuple[int, int]]:
        self.now += 0.25
        self.ledger.advance(self.now)
        found = {(each.objective, each.sli): each.windows.count(300.0) for each in self.ledger.get(kind, name)}
        return {key: (each.good, each.bad) for key, each in found.items() if each.total}


def test_each_request_counts_under_its_own_objective_and_one_without_under_its_models() -> None:
    town = Town(model("m", batch=SLOW))
    town.serve(ttft=9.0)
    town.serve(objective="")
    town.serve(objective="slow", ttft=9.0)
    town.serve(objective="of other routes")
    for kind, name in ((Kind.MODEL, "m"), (Kind.VERSION, "m/v1"), (Kind.POOL, "p"), (Kind.BACKEND, BACKEND.id)):
        assert town.counted(kind, name) == {
            ("fast", "availability"): (2, 0),
            ("fast", "ttft"): (1, 1),
            ("slow", "availability"): (1, 0),
            ("slow", "e2e"): (1, 0),
        }
    assert repr(town.ledger).startswith("<SloLedger of ")
    assert repr(town.ledger.requests["m", "v1", "fast"]) == "<ObjectiveCounts fast 1 met 1 missed>"
    assert repr(next(iter(town.ledger.requests["m", "v1", "slow"]))) == "<Cell availability  1 good 0 bad>"
    assert repr(town.ledger.get(Kind.POOL, "p")[0]).startswith("<Series availability of pool p (fast) ")


def test_a_bad_gap_between_tokens_is_no_goodput() -> None:
    town = Town(model("m"))
    town.serve(gaps=(3, 0, 0))
    town.serve(gaps=(3, 1, 0))
    counts = town.ledger.requests["m", "v1", "fast"]
    assert (counts.met, counts.missed, counts.tokens) == (1, 1, 7)
    assert town.counted(Kind.MODEL, "m")["fast", "itl"] == (6, 1)


def test_models_that_share_a_pool_are_each_held_to_their_own_targets_there() -> None:
    town = Town(model("m"), model("n", objective=SLOW), model("o"))
    town.serve("m", ttft=9.0)
    town.serve("n", "slow", ttft=9.0)
    town.serve("o", ttft=0.1)
    assert town.counted(Kind.BACKEND, BACKEND.id) == {
        ("fast", "availability"): (2, 0),
        ("fast", "ttft"): (1, 1),
        ("slow", "availability"): (1, 0),
        ("slow", "e2e"): (1, 0),
    }


def test_a_reload_keeps_counts_under_new_targets_and_begins_anew_under_another_name_or_window() -> None:
    town = Town(model("m"))
    town.serve()
    stricter = replace(FAST, targets={**FAST.targets, Sli.TTFT: Target(0.999, 0.05, ((100, 5.0),))})
    town.follow(model("m", objective=stricter))
    town.serve()
    assert town.counted(Kind.MODEL, "m")["fast", "ttft"] == (1, 1)
    (long,) = [each for each in town.ledger.by_prompt_tokens(Kind.MODEL, "m") if each.prompt_tokens == "<100"]
    assert long.windows.count(300.0).total == 2
    assert [cell.good for cell in town.ledger.requests["m", "v1", "fast"]] == [2, 1, 0, 0]
    town.follow(model("m", objective=replace(stricter, window=30 * 86_400.0)))
    assert town.counted(Kind.MODEL, "m") == {}
    town.follow(model("m", objective=SLOW))
    assert town.counted(Kind.MODEL, "m") == {}


def test_what_was_kept_is_known_by_its_objective_and_what_is_older_belongs_to_the_first() -> None:
    town = Town(model("m", batch=SLOW))
    slot = int(town.now // MINUTE)

    def before(objective: str, good: int, *, name: str = "m", prompt_tokens: str = "") -> SlotCounts:
        return SlotCounts(
            SeriesKey("model", name, objective, "availability", prompt_tokens),
            MINUTE,
            slot,
            good,
            0,
            town.now,
            town.now,
        )

    town.ledger.restore([before("slow", 3), before("", 5), before("gone", 7), before("fast", 11, name="gone")])
    town.ledger.advance(town.now)
    counted = [each for each in town.ledger.get(Kind.MODEL, "m") if each.sli == Sli.AVAILABILITY]
    found = {each.objective: each.windows.count(3600.0).good for each in counted}
    assert found == {"fast": 5, "slow": 3}


def test_what_is_saved_names_the_series() -> None:
    town = Town(model("m", objective=DEFAULT))
    town.serve(objective="")
    town.now += 0.25
    town.ledger.advance(town.now)
    saved = {each.series: (each.good, each.bad) for each in town.ledger.unsaved() if each.series.kind == "model"}
    assert saved[SeriesKey("model", "m", "default", "ttft")] == (1, 0)
    assert saved[SeriesKey("model", "m", "default", "ttft", "<4096")] == (1, 0)
