"""What the tour runs on."""

import json
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.cli.demo.load import Draw
from gateway.cli.demo.setting import PLAIN, ROLLOUT, Setting
from gateway.cli.demo.tour.setting import TOUR, batch, interactive


def urls(setting: Setting) -> dict[str, list[str]]:
    return {
        pool: [f"http://127.0.0.1:{8000 + 10 * number + index}" for index in range(len(engines))]
        for number, (pool, engines) in enumerate(setting.pools.items())
    }


@pytest.mark.parametrize("setting", [PLAIN, ROLLOUT, TOUR], ids=["plain", "rollout", "tour"])
def test_the_route_file_passes_the_check(setting: Setting, tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    path.write_text(json.dumps(setting.routes(urls(setting))))

    done = CliRunner().invoke(app, ["check", str(path)])

    assert done.exit_code == 0, done.output


def test_its_engines_are_counted_in_words() -> None:
    assert PLAIN.words == "2 GPU engines, 1 CPU engine, all simulated"
    assert TOUR.words == "4 GPU engines, all simulated"


@pytest.mark.parametrize(("draw", "streamed"), [(interactive, True), (batch, False)])
def test_interactive_chats_are_streamed_and_batch_is_not(draw: Draw, streamed: bool) -> None:
    path, body = draw(Random(0))

    assert (path, body["stream"]) == ("/v1/chat/completions", streamed)
    assert body["messages"]
