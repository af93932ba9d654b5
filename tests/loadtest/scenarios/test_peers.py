"""Configurations of other gateways: what becomes of a template."""

from pathlib import Path

import pytest

from loadtest.scenarios.engines import Engine
from loadtest.scenarios.peers import CONF, Setup, filled
from loadtest.scenarios.scenario import Scenario, load, shipped

TWO_GROUPS = Scenario.model_validate(
    {
        "title": "Two groups",
        "about": "",
        "seconds": 1,
        "judged": [0, 1],
        "engines": {"new": {"count": 2, "share": 0.9}, "old": {"count": 1, "share": 0.1}},
        "load": [{"name": "chat", "rate": 1, "prompt_tokens": [1, 2], "output_tokens": [1, 2]}],
        "objective": {"ttft": "1s", "tpot": "1s"},
    }
)


def setup(scenario: Scenario) -> Setup:
    engines = [Engine(name, f"http://127.0.0.1:{9000 + n}", "") for n, name in enumerate(scenario.engine_names())]
    return Setup(scenario, engines, Path())


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("listen ${listen};", "listen 80;"),
        ("server ${engine.address};", "server 127.0.0.1:9000;\nserver 127.0.0.1:9001;\nserver 127.0.0.1:9002;"),
        ("server ${old.name} ${old.port} backup;", "server old-0 9002 backup;"),
        ("${new.weight} ${listen}", "135 80\n135 80"),
        ("proxy_pass http://$pool;", "proxy_pass http://$pool;"),
    ],
)
def test_a_line_is_repeated_for_each_engine_that_it_means(text: str, becomes: str) -> None:
    assert filled(text, setup(TWO_GROUPS), {"listen": 80}) == becomes + "\n"


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.*")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_configuration_names_every_engine_of_its_scenario(path: Path) -> None:
    name = "steady" if path.parent == CONF else path.parent.name
    around = setup(next(load(each) for each in shipped() if each.stem == name))
    text = filled(path.read_text(), around, {"listen": 80, "balance": ""})
    assert "${" not in text
    assert all(engine.port in text for engine in around.engines)
