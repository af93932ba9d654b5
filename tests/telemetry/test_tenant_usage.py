"""What tenants used is counted by name, for a bounded number of names."""

from gateway.exchange import AttemptEnd, Exchange, Outcome
from gateway.telemetry.tenant_usage import MOST_PAIRS, MOST_TENANTS, OTHER, RESULTS, TenantUsage
from tests.attempts import attempted
from tests.telemetry.test_metrics import BACKEND, exchange


def of(tenant: str, outcome: Outcome = Outcome.OK, *, model: str = "m", cost: float = 0.0) -> Exchange:
    made = exchange(outcome, model=model)
    made.tenant = tenant
    made.attempts = [attempted(backend="gpu/e:1")]
    made.attempts[-1].cost = cost
    return made


def counting(*tenants: str) -> TenantUsage:
    usage = TenantUsage()
    usage.follow(tenants)
    return usage


def test_every_outcome_is_something_to_a_tenant() -> None:
    assert RESULTS.keys() == set(Outcome)
    usage = counting("acme")
    for outcome in Outcome:
        usage.on_settled(of("acme", outcome))
    assert usage.usage["acme", "m"].results == {"ok": 1, "limited": 1, "client": 4, "failed": 6}


def test_tokens_are_those_that_engines_tell_and_output_is_estimated_without() -> None:
    usage, told, silent = counting("acme"), of("acme"), of("acme")
    told.cached_tokens = 100
    silent.prompt_tokens = silent.output_tokens = None
    usage.on_settled(told)
    usage.on_settled(silent)
    found = usage.usage["acme", "m"]
    assert (found.prompt, found.output) == (7, 21 + 11)
    assert found.cached == 7, "no more than the prompt has"


def test_each_attempt_is_charged_to_its_tenant_at_the_pool_where_it_was_made() -> None:
    usage = counting("acme")
    for pool, cost in (("gpu", 1.0), ("cpu", 0.25), ("cpu", 0.25), ("free", 0.0)):
        made = of("acme", cost=cost)
        made.pool = pool
        usage.on_attempt_ended(made, BACKEND, AttemptEnd.OK)
    assert usage.costs == {("acme", "m", "gpu"): 1.0, ("acme", "m", "cpu"): 0.5}


def test_a_tenant_that_the_routes_do_not_name_is_among_the_others() -> None:
    usage = counting("acme")
    for name in ("", "invented"):
        usage.on_settled(of(name))
        usage.on_attempt_ended(of(name, cost=1.0), BACKEND, AttemptEnd.OK)
    assert list(usage.usage) == [(OTHER, "m")]
    assert usage.costs == {(OTHER, "m", "gpu"): 2.0}


def test_the_first_thousand_tenants_have_names_and_those_that_are_gone_make_room() -> None:
    first = [f"t{number}" for number in range(MOST_TENANTS + 1)]
    usage = counting(*first)
    assert usage.is_named(first[-2])
    assert not usage.is_named(first[-1])
    usage.on_settled(of("t0"))
    usage.on_attempt_ended(of("t0", cost=1.0), BACKEND, AttemptEnd.OK)
    usage.on_settled(of(first[-1]))
    usage.follow(first[1:])
    usage.on_settled(of(first[-1]))
    assert {key: each.results["ok"] for key, each in usage.usage.items()} == {(OTHER, "m"): 2, (first[-1], "m"): 1}
    assert usage.costs == {(OTHER, "m", "gpu"): 1.0}, "what a tenant had that is gone is not lost"


def test_a_tenant_that_comes_back_goes_on_where_it_was() -> None:
    usage = counting("acme", "beta")
    usage.on_settled(of("acme"))
    usage.follow(["beta"])
    usage.follow(["beta", "acme"])
    usage.on_settled(of("acme"))
    assert usage.usage["acme", "m"].results == {"ok": 2}


def test_the_number_of_tenants_and_models_is_bounded() -> None:
    usage = counting("acme")
    for number in range(MOST_PAIRS + 5):
        made = of("acme", model=f"m{number}", cost=1.0)
        usage.on_settled(made)
        usage.on_attempt_ended(made, BACKEND, AttemptEnd.OK)
    assert usage.usage["acme", OTHER].results == {"ok": 5}
    assert usage.costs["acme", OTHER, "gpu"] == 5.0
    assert len(usage.usage) == len(usage.costs) == MOST_PAIRS + 1
