"""The doctor looks at three releases of vLLM, at what is no vLLM, and at what is not there."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from gateway.backends.exposed import EngineMetrics, extract
from gateway.cli.commands import app
from gateway.config.load import load_routes
from gateway.doctor.ask import Checkup, check_all
from gateway.doctor.checkup import Level
from loadtest.bench.listening import listening
from tests.e2e.processes import engine

pytestmark = pytest.mark.anyio
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
FIXTURES = Path(__file__).parent / "fixtures"
CAPTURE = Path(__file__).parents[1] / "captures" / "vllm-opts" / "metrics_noauth.txt"
RELEASES = {
    "0.6": (FIXTURES / "vllm-0.6.txt").read_text(),
    "0.10": (FIXTURES / "vllm-0.10.txt").read_text(),
    "0.32": CAPTURE.read_text().split("\n\n", 1)[1],
}


@asynccontextmanager
async def answering(metrics: str | None, *models: str, health: int = 200, version: str = "0.0") -> AsyncIterator[str]:
    """A server that answers the doctor's questions so, and nothing else."""
    listed = json.dumps({"data": [{"id": name} for name in models]})
    answers = {
        "/health": (health, ""),
        "/v1/models": (200, listed),
        "/version": (200, json.dumps({"version": version})),
    }
    if metrics is not None:
        answers["/metrics"] = (200, metrics)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            status, body = answers.get(head.split()[1].decode(), (404, ""))
            data = body.encode()
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(data), data))

    async with listening(serve) as url:
        yield url


async def examined(folder: Path, url: str, served: str = LLAMA, under: str = "500ms") -> list[tuple[Level, str, str]]:
    routes = {
        "objectives": {
            "o": {
                "ttft": {"target": 99, "under": under},
                "itl": {"target": 99, "under": "200ms"},
                "e2e": {"target": 99, "under": "60s"},
            }
        },
        "models": {"m": {"backends": [url], "served_model": served, "objective": "o"}},
    }
    (folder / "routes.yaml").write_text(yaml.safe_dump(routes))
    (checkup,) = await check_all(load_routes(folder / "routes.yaml"))
    assert isinstance(checkup, Checkup)
    return [(finding.level, finding.what, finding.hint) for finding in checkup.findings]


@pytest.mark.parametrize(
    ("release", "served", "warnings"),
    [
        ("0.6", LLAMA, ["prefix cache: no vllm:prefix_cache_queries_total", "itl of m under 0.2s: it is called"]),
        ("0.10", LLAMA, ["itl of m under 0.2s: it is called vllm:time_per_output_token_seconds"]),
        ("0.32", "tiny", []),
    ],
)
async def test_each_release_is_understood(release: str, served: str, warnings: list[str], tmp_path: Path) -> None:
    async with answering(RELEASES[release], served, version=release) as url:
        findings = await examined(tmp_path, url, served)
    assert findings[0] == (Level.OK, f"answers, version {release}", "")
    said = [what for level, what, _ in findings if level is Level.WARNING]
    assert len(said) == len(warnings), said
    assert all(what.startswith(start) for what, start in zip(said, warnings, strict=True))
    assert not [what for level, what, _ in findings if level is Level.PROBLEM]
    usage = next(what for _, what, _ in findings if what.startswith("KV cache usage"))
    assert ("old name" in usage) == (release == "0.6")


async def test_a_threshold_without_a_bucket_is_told_with_the_nearest(tmp_path: Path) -> None:
    async with answering(RELEASES["0.10"], LLAMA) as url:
        findings = await examined(tmp_path, url, under="600ms")
    (told,) = [(what, hint) for _, what, hint in findings if "has no bucket" in what]
    assert told[0].endswith('vllm:time_to_first_token_seconds has no bucket le="0.6"')
    assert "set the threshold to 0.5s or 0.75s" in told[1]


async def test_bounds_that_are_none_harm_nobody(tmp_path: Path) -> None:
    odd = RELEASES["0.10"].replace('le="0.5"', 'le="x"').replace('le="0.75"', 'le="1e400"')
    async with answering(odd, LLAMA) as url:
        findings = await examined(tmp_path, url)
    assert any("set the threshold to 0.25s or 1s" in hint for _, _, hint in findings)


async def test_another_model_is_a_problem_with_what_would_be_right(tmp_path: Path) -> None:
    async with answering(RELEASES["0.10"], "meta-llama/Llama-3.1-8B") as url:
        findings = await examined(tmp_path, url)
    (told,) = [(what, hint) for level, what, hint in findings if level is Level.PROBLEM]
    assert told[0] == f"does not serve {LLAMA}"
    assert "did you mean `meta-llama/Llama-3.1-8B`?" in told[1]
    assert f"--served-model-name {LLAMA}" in told[1]


@pytest.mark.parametrize("metrics", [None, "", "process_cpu_seconds_total 1\n", "\x00garbage" * 1000])
async def test_what_has_no_metrics_of_vllm_is_only_warned_about(metrics: str | None, tmp_path: Path) -> None:
    async with answering(metrics, LLAMA) as url:
        findings = await examined(tmp_path, url)
    assert [what for level, what, _ in findings if level is not Level.OK] == ["no vLLM metrics at /metrics"]


async def test_a_dead_engine_and_one_that_is_not_there_are_problems(tmp_path: Path) -> None:
    async with answering(None, LLAMA, health=503) as url:
        findings = await examined(tmp_path, url)
        assert findings[0][:2] == (Level.PROBLEM, "/health answers 503")
    findings = await examined(tmp_path, url)
    assert findings[0][0] is Level.PROBLEM
    assert findings[0][1].startswith("cannot be reached")


async def test_an_engine_that_rejects_the_key_is_a_problem(tmp_path: Path) -> None:
    async with engine("--api-key", "hush", model="m") as backend:
        findings = await examined(tmp_path, backend.urls[0], "m")
    ((what, hint),) = [(what, hint) for level, what, hint in findings if level is Level.PROBLEM]
    assert what == "/v1/models answers 401"
    assert "set `api_key`" in hint


@pytest.mark.parametrize(("old", "code"), [((), 0), (("--old-metric-names",), 0)])
async def test_the_command_on_simulated_engines(old: tuple[str, ...], code: int, tmp_path: Path) -> None:
    async with engine(*old, model="m") as backend:
        (tmp_path / "routes.yaml").write_text(json.dumps({"models": {"m": {"backends": backend.urls[:1]}}}))
        arguments = ["doctor", str(tmp_path / "routes.yaml")]
        well = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        assert well.exit_code == code, well.stderr
        assert "serves m" in well.stdout
        listed = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--json"])
        assert listed.exit_code == code
        (found,) = json.loads(listed.stdout)
        assert found["backend"] == f"m/{backend.urls[0].removeprefix('http://')}"
    gone = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert gone.exit_code == 1


def test_the_command_says_that_backends_which_are_found_are_not_asked(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text("models: {m: {backends: [{dns: vllm.svc, port: 8000}]}}")
    result = CliRunner().invoke(app, ["doctor", str(file)])
    words = "not asked: the backends that the gateway finds itself, for m (see `tidegate status`)\n"
    assert (result.exit_code, result.stdout) == (0, words)


def test_what_is_read_of_each_release() -> None:
    assert extract(RELEASES["0.6"].encode()) == EngineMetrics(3.0, 1.0, 0.25, 27671 * 16, 2.0)
    assert extract(RELEASES["0.10"].encode()) == EngineMetrics(3.0, 1.0, 0.25, 27671 * 16, 2.0, 1000.0, 400.0)
    read = extract(RELEASES["0.32"].encode())
    assert (read.running, read.waiting, read.kv_usage, read.sleeping) == (0.0, 0.0, 0.0, False)
