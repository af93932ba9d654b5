"""Large routes are loaded in another process: what comes back is what loading them here gives."""

import io
import json
from pathlib import Path

import pytest

from gateway.config.apart import LARGE, are_large, load_apart
from gateway.config.itself import Listening
from gateway.config.load import load_routes
from gateway.config.problems import RoutesError
from gateway.config.table import RouteTable
from gateway.config.transfer import receive, send
from gateway.wire.slices import finish

ROUTES = {
    "pools": {"gpu": {"backends": ["http://a:1", "http://b:1"], "capacity": {"max": 8, "budget": "gpus"}}},
    "budgets": {"gpus": {"replicas": 4}},
    "objectives": {"o": {"availability": {"target": 99.5}, "ttft": {"target": 99, "under": "2s"}}},
    "classes": {"gold": {"priority": 1}},
    "tenants": {"acme": {"key_sha256": "0" * 64, "limits": {"requests_per_minute": 7}}},
    "models": {
        "m": {"objective": {"default": "o", "gold": "o"}, "aliases": ["n"], "versions": {"v1": {"pools": ["gpu"]}}}
    },
}


def written(folder: Path, routes: object) -> Path:
    path = folder / "routes.yaml"
    path.write_text(json.dumps(routes))
    return path


def sent(loaded: RouteTable | RoutesError) -> RouteTable:
    stream = io.BytesIO()
    send(loaded, stream)
    return finish(receive(stream.getvalue()))


def test_a_table_arrives_as_it_was_sent(tmp_path: Path) -> None:
    table = load_routes(written(tmp_path, ROUTES))
    arrived = sent(table)
    assert arrived == table
    assert arrived.names["n"] is arrived.models["m"], "what entries share they share still"
    with pytest.raises(TypeError):
        arrived.models["m"].versions["v2"] = arrived.models["m"].versions["v1"]  # type: ignore[index]


def test_problems_arrive_too(tmp_path: Path) -> None:
    with pytest.raises(RoutesError) as here:
        load_routes(written(tmp_path, {"models": {"m": {"backends": ["nonsense"]}}}))
    with pytest.raises(RoutesError) as there:
        sent(here.value)
    assert (there.value.problems, there.value.secret_files) == (here.value.problems, here.value.secret_files)


def test_another_process_loads_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, ROUTES)
    data = load_apart(path, [Listening("::1", 8080)])
    assert data is not None
    assert finish(receive(data)) == load_routes(path)
    data = load_apart(path, [Listening("a", 1)])
    assert data is not None
    with pytest.raises(RoutesError, match="this gateway itself"):
        finish(receive(data))


def test_what_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "nothing"))
    assert load_apart(written(tmp_path, ROUTES), []) is None


def test_modules_in_the_current_directory_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, ROUTES)
    for name in ("yaml.py", "gateway.py"):
        (tmp_path / name).write_text("raise SystemExit(0)")
    monkeypatch.chdir(tmp_path)
    data = load_apart(path, [])
    assert data is not None
    assert finish(receive(data)) == load_routes(path)


def test_a_process_that_ends_before_it_has_sent_all_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    assert load_apart(written(tmp_path, ROUTES), []) is None


def test_only_large_files_are_worth_a_process(tmp_path: Path) -> None:
    path = written(tmp_path, ROUTES)
    assert not are_large(path)
    path.write_text(path.read_text() + " " * LARGE)
    assert are_large(path)
    assert not are_large(tmp_path / "nothing.yaml")
