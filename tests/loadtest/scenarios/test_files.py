"""Scenario files: those that are shipped, and what is said of wrong ones."""

from pathlib import Path

import pytest

from gateway.config.load import load_routes
from loadtest.scenarios.engines import Engine
from loadtest.scenarios.gateways import configured
from loadtest.scenarios.peers import Setup
from loadtest.scenarios.scenario import load, shipped
from loadtest.scenarios.traffic import Traffic


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
class TestShipped:
    def test_can_be_read_and_its_routes_load(self, path: Path, tmp_path: Path) -> None:
        scenario = load(path)
        engines = [Engine(name, f"http://127.0.0.1:{9000 + n}", "") for n, name in enumerate(scenario.engine_names())]
        table = load_routes(configured(Setup(scenario, engines, tmp_path)))
        assert "llama" in table.models

    def test_every_gateway_and_every_repetition_with_a_seed_gets_the_same_requests(self, path: Path) -> None:
        scenario = load(path)
        first, second, other = Traffic(scenario, 1), Traffic(scenario, 1), Traffic(scenario, 2)
        assert [first.request(each, "h") for each in first.arrivals] == [
            second.request(each, "h") for each in second.arrivals
        ]
        assert first.arrivals != other.arrivals
        assert all(0 <= each.at < scenario.seconds for each in first.arrivals)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"engines: [gpu-0]": "engines: [gpu-9]"}, "no engine 'gpu-9'; there are gpu-0, gpu-1"),
        ({"set: {slow: 5}": "set: {slwo: 5}"}, "slwo"),
        ({"judged: [15, 75]": "judged: [15, 750]"}, "judged: give [from, until] within 0 and seconds"),
        ({"ttft: 500ms": "ttft: 500"}, "ttft"),
        ({"rate: 20": "rate: 0"}, "rate"),
        ({"title:": "titel:"}, "titel"),
        ({"engines:\n": "engines: [\n"}, "brown-out.yaml: while parsing"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_what_is_wrong(
    change: dict[str, str], said: str, tmp_path: Path
) -> None:
    text = next(path for path in shipped() if path.stem == "brown-out").read_text()
    for old, new in change.items():
        text = text.replace(old, new)
    wrong = tmp_path / "brown-out.yaml"
    wrong.write_text(text)
    with pytest.raises(ValueError, match=r"brown-out\.yaml") as raised:
        load(wrong)
    assert said in str(raised.value)
