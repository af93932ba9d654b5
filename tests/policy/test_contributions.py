"""Whose the failures of the last hour were: they keep to the ledger's minutes, and their number is bounded."""

from dataclasses import dataclass

from gateway.policy.slo.contributions import Contributions
from gateway.policy.slo.following import ModelSubjects
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Objective, Sli, Target
from gateway.policy.slo.series import Kind
from gateway.policy.slo.time_in_use import HOUR

PLAIN = Objective("o", {Sli.AVAILABILITY: Target(0.99), Sli.ITL: Target(0.99, 0.1)})
STEPPED = Objective("s", {Sli.AVAILABILITY: Target(0.99), Sli.TTFT: Target(0.99, 1.0, ((100, 2.0), (200, 3.0)))})


@dataclass(frozen=True)
class Request:
    tenant: str = ""
    good: bool = False
    prompt: int = 10
    objective: Objective = PLAIN
    gaps: tuple[int, int] = (0, 0)

    def count(self, counts: Contributions) -> None:
        judged: dict[str, bool] = {Sli.AVAILABILITY: self.good}
        counts.count("m", self.objective, judged, self.gaps, prompt_tokens=self.prompt, tenant=self.tenant)


def fold(counts: Contributions, now: float, *requests: Request) -> None:
    for each in requests:
        each.count(counts)
    for _ in counts.folding(now):
        pass


def told(counts: Contributions, sli: str = Sli.AVAILABILITY, objective: str = "o") -> dict[str, tuple[int, int]]:
    looking = counts.of("m", objective, sli)
    while True:
        try:
            next(looking)
        except StopIteration as end:
            return {each.name: (each.bad, each.total) for each in end.value}


def test_failures_are_counted_by_tenant_and_by_length_of_the_prompt() -> None:
    counts = Contributions()
    fold(counts, 1.0, Request("acme"), Request("acme", good=True), Request("zoo", good=True, prompt=5000))
    assert told(counts) == {"acme": (1, 2), "<1024": (1, 2)}
    fold(counts, 2.0, Request("zoo", prompt=4096), Request("acme", prompt=16_384))
    assert told(counts) == {"acme": (2, 3), "zoo": (1, 2), "<1024": (1, 2), "4096-16383": (1, 2), "16384+": (1, 1)}
    assert told(counts, objective="other") == {}
    assert repr(counts) == "<Contributions of 2 tenants>"


def test_prompts_are_told_apart_where_the_objective_does_so_and_without_tenants_there_are_none() -> None:
    counts = Contributions()
    fold(counts, 1.0, *(Request(prompt=each, objective=STEPPED) for each in (99, 100, 199, 200)))
    assert told(counts, objective="s") == {"<100": (1, 1), "100-199": (2, 2), "200+": (1, 1)}
    assert told(counts, Sli.TTFT, "s") == {}


def test_gaps_between_tokens_count_as_many_events() -> None:
    counts = Contributions()
    fold(counts, 1.0, Request("acme", good=True, gaps=(3, 1)), Request("acme", good=True, gaps=(4, 2)))
    assert told(counts, Sli.ITL) == {"acme": (3, 10), "<1024": (3, 10)}
    assert told(counts) == {}


def test_what_is_remembered_counts_once_it_is_folded_and_for_an_hour_as_in_the_ledger() -> None:
    ledger = SloLedger(0.0)
    ledger.follow([ModelSubjects("m", [PLAIN], {"v": []})], {}, 0.0)
    series = next(each for each in ledger.get(Kind.MODEL, "m") if each.sli == Sli.AVAILABILITY)
    for number in range(200):
        if number % 3 == 0:
            ledger.requests["m", "v", "o"].count({Sli.AVAILABILITY: False}, (0, 0), 10)
            Request("acme").count(ledger.contributions)
        ledger.advance(number * 47.0)
        bad, total = told(ledger.contributions)["acme"]
        assert bad == total == series.windows.count(HOUR).bad
    ledger.advance(20_000.0)
    assert told(ledger.contributions) == {}


def test_tenants_beyond_the_most_are_counted_together_until_others_are_idle() -> None:
    counts = Contributions(most=2)
    fold(counts, 1.0, *(Request(f"t{each}") for each in range(5)), Request("t0"))
    assert told(counts) == {"t0": (2, 2), "t1": (1, 1), "(others)": (3, 3), "<1024": (6, 6)}
    fold(counts, 3000.0, Request("t1"))
    fold(counts, 4000.0)
    fold(counts, 4001.0, Request("t4"))
    assert told(counts) == {"t1": (1, 1), "t4": (1, 1), "<1024": (2, 2)}
    fold(counts, 20_000.0)
    assert repr(counts) == "<Contributions of 0 tenants>"


def test_many_are_counted_and_told_in_pieces() -> None:
    counts = Contributions()
    for number in range(200):
        Request(f"t{number}").count(counts)
    assert len(list(counts.folding(1.0))) >= 3
    assert len(list(counts.of("m", "o", Sli.AVAILABILITY))) >= 3
