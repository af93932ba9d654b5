"""Classes of prompt lengths have alerts of their own, and are part of the incident of their model and SLI."""

from gateway.control.incidents import Notice
from gateway.policy.slo.objective import Sli
from gateway.policy.slo.series import Kind
from tests.control.test_alerts import Town


def late(town: Town, seconds: int, *classes: str, beside: int = 1000) -> None:
    """Let first tokens of prompts of these lengths be late, one a second each, beside so many others that are not."""
    (whole,) = [each for each in town.ledger.get(Kind.MODEL, "m") if each.sli == Sli.TTFT]
    parts = {each.prompt_tokens: each for each in town.ledger.by_prompt_tokens(Kind.MODEL, "m")}
    for _ in range(seconds):
        town.now += 1.0
        for series, bad in ((whole, len(classes)), *((parts[each], 1) for each in classes)):
            town.ledger.count(series, bad=bad)
        town.ledger.count(whole, good=beside)
        town.ledger.count(parts["<4096"], good=beside)
        town.ledger.advance(town.now)
        town.alerter.evaluate()


def test_a_class_of_prompt_lengths_is_told_of_when_its_model_does_not_burn() -> None:
    told: list[Notice] = []
    town = Town(told.append)
    late(town, 1200, "32768+")
    late(town, 1200, "4096-32767", "32768+")
    (notice,) = told
    assert (notice.labels["sli"], notice.labels["prompt_tokens"]) == ("ttft", "32768+")
    assert notice.summary.startswith("ttft of m (prompts of 32768+ tokens): ")


def test_a_class_of_prompt_lengths_belongs_to_its_model_that_burns() -> None:
    told: list[Notice] = []
    town = Town(told.append)
    late(town, 1800, "4096-32767", "32768+", beside=0)
    assert [notice.labels.get("prompt_tokens", "") for notice in told] == [""]
