import pytest

from loadtest.report.recording import Objective
from loadtest.users.objective import chosen, not_judged, objective

TOLD = {
    "classes": [],
    "targets": [
        {"sli": "availability", "target": 0.999, "thresholds": []},
        {
            "sli": "ttft",
            "target": 0.99,
            "thresholds": [{"prompt_tokens": 0, "seconds": 2.0}, {"prompt_tokens": 4096, "seconds": 5.0}],
        },
        {"sli": "e2e", "target": 0.95, "thresholds": [{"prompt_tokens": 0, "seconds": 60.0}]},
    ],
}
BATCH = {"classes": ["batch"], "targets": []}


def test_an_objective_is_read_as_the_gateway_tells_it() -> None:
    found = objective(TOLD)
    assert found == Objective(99.9, 2.0, 99.0, 0.0, 0.0, ((4096, 5.0),))
    assert not_judged(TOLD) == ["e2e"]


@pytest.mark.parametrize(
    ("classes", "found"),
    [(("",), TOLD), (("batch",), BATCH), (("interactive", ""), TOLD), (("interactive", "batch"), None)],
)
def test_it_is_that_of_the_class_of_service(classes: tuple[str, ...], found: object) -> None:
    assert chosen([BATCH, TOLD], classes) is found


def test_a_model_may_have_none() -> None:
    assert chosen([], ("",)) is None
