import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.commands import app
from gateway.config.schema import json_schema

GOOD = """\
pools:
  gpu: {cost_per_hour: 2.5, backends: [{url: http://gpu-0:8000, max_concurrency: 64, api_key: "${KEY}"}]}
  next: {backends: [http://next-0:8000]}
models:
  llama:
    aliases: [gpt-4o-mini]
    versions: {v1: {pools: [gpu], served_model: meta/llama}, v2: {pools: [next]}}
    split: {v1: 3, v2: 1}
    timeouts: {first_token: 250ms}
"""
BAD = "models:\n  m: {backend: [http://a]}\n  n: {backends: [http://a], timeouts: {total: 5}}\n"


def check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, arguments)], env={"KEY": "sk-hunter2"})


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    return tmp_path / "routes.yaml"


class TestRoutesThatCanBeServed:
    def test_it_shows_what_they_mean(self, routes: Path) -> None:
        routes.write_text(GOOD)

        result = check(routes)

        assert result.exit_code == 0
        assert result.stderr == ""
        rows = [line.split() for line in result.stdout.splitlines()]
        assert ["llama", "gpt-4o-mini", "v1", "75", "%", "gpu", "meta/llama"] in rows
        assert ["v2", "25", "%", "next", "llama"] in rows
        assert ["llama", "2s", "250ms", "adaptive", "20s", "(5m", "while", "the", "backend", "works)", "10m"] in rows
        assert ["llama", "all", "default", "(28d)", "availability", "99.9", "%", "answered", "completely"] in rows
        assert ["gpu", "gpu", "2.5", "http://gpu-0:8000", "64", "yes"] in rows
        assert ["next", "gpu", "http://next-0:8000", "adaptive"] in rows
        pages = [" ".join(row) for row in rows if row[:1] == ["default"]]
        assert pages == [
            "default availability 13.44 5 within 1 h, or 5 within 6 h 48.4 s with traffic",
            "default ttft, tpot 13.44 5 within 1 h, or 5 within 6 h 8 min with traffic",
        ]
        assert "note:" not in result.stdout
        assert rows[-1] == ["ok:", str(routes)]

    def test_it_shows_what_pools_share(self, routes: Path) -> None:
        routes.write_text("""
budgets: {gpus: {replicas: 32}, money: {cost_per_hour: 80, aim: fair_sum}}
pools:
  chat: {backends: [http://chat], capacity: {min: 2, max: 24, budget: gpus, weight: 2}}
  code: {backends: [http://code], capacity: {max: 24, budget: gpus}}
  large: {backends: [http://large], cost_per_hour: 8, capacity: {max: 20, budget: money, backends_per_replica: 2}}
models: {m: {versions: {v1: {pools: [chat, code, large]}}}}
""")
        result = check(routes)
        assert result.stderr == ""
        rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
        begin = rows.index("budget in all aim pool weight fewest most")
        assert rows[begin + 1 : begin + 4] == [
            "gpus 32 replicas sum chat 2 2 24",
            "code 1 1 24",
            "money 80 per hour fair_sum large 1 16 320",
        ]
        found = json.loads(check(routes, "--json").stdout)
        assert found["budgets"]["gpus"] == {
            "replicas": 32,
            "cost_per_hour": None,
            "aim": "sum",
            "pools": {"chat": {"weight": 2.0}, "code": {"weight": 1.0}},
        }
        capacity = found["pools"]["chat"]["capacity"]
        assert (capacity["budget"], capacity["weight"]) == ("gpus", 2.0)

    def test_it_shows_the_tenants(self, routes: Path) -> None:
        routes.write_text(f"""
models: {{m: {{backends: [http://e:1]}}}}
tenants:
  anyone: {{key_sha256: {"0" * 63}1}}
  nightly: {{key_sha256: {"0" * 63}2, class: batch, models: [m], limits: {{requests_per_minute: 1000, concurrent: 5}}}}
""")

        result = check(routes)

        rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
        assert "anyone standard all none" in rows
        assert "nightly batch m requests per minute 1,000, concurrent 5" in rows

    def test_it_shows_them_to_programs(self, routes: Path) -> None:
        routes.write_text(GOOD)

        result = check(routes, "--json")

        assert result.exit_code == 0
        outcome = json.loads(result.stdout)
        assert outcome["ok"] is True
        assert outcome["sources"] == [str(routes)]
        assert outcome["warnings"] == []
        assert len(outcome["notes"]) == 3
        assert outcome["notes"][0].startswith("default, availability 99.9 %: minimum failures for a page: 5 within 1 h")
        objective = outcome["models"]["llama"].pop("objective")
        assert (objective["name"], objective["window_seconds"]) == ("default", 28 * 86_400)
        assert objective["targets"]["availability"] == {"target": 99.9, "ratio": 0.999}
        assert objective["targets"]["tpot"] == {
            "target": 99,
            "ratio": 0.99,
            "under_seconds": 0.1,
            "by_prompt_tokens": {},
        }
        assert outcome["classes"]["batch"]["min_share"] == 0.05
        assert outcome["tenants"] == {}
        assert outcome["models"]["llama"] == {
            "objective_by_class": {},
            "canary": None,
            "rules": [],
            "aliases": ["gpt-4o-mini"],
            "versions": {
                "v1": {"pools": ["gpu"], "served_model": "meta/llama"},
                "v2": {"pools": ["next"], "served_model": "llama"},
            },
            "split": {"v1": 3.0, "v2": 1.0},
            "timeouts_seconds": {
                "connect": 2.0,
                "first_token": 0.25,
                "stall": None,
                "total": 600.0,
                "first_byte": None,
            },
        }
        assert outcome["pools"]["gpu"] == {
            "accelerator": "gpu",
            "cost_per_hour": 2.5,
            "warm_up_seconds": 180.0,
            "capacity": None,
            "scale_from_zero": None,
            "pre_warm": 0,
            "backends": [
                {
                    "id": "gpu/gpu-0:8000",
                    "url": "http://gpu-0:8000",
                    "max_concurrency": 64,
                    "has_api_key": True,
                }
            ],
            "discovered": [],
        }

    def test_it_shows_where_backends_are_found_and_what_is_wrong_there(self, routes: Path) -> None:
        found = "[{dns: vllm.svc, port: 8000}, {file: t.json, where: {gpu: h100}, max_concurrency_label: slots}]"
        routes.write_text(f"models: {{m: {{backends: {found}}}}}\n")
        missing = check(routes)
        assert missing.exit_code == 0
        rows = [" ".join(line.split()) for line in missing.stdout.splitlines()]
        assert "m gpu dns vllm.svc:8000 adaptive" in rows
        file = next(row for row in rows if row.startswith("file "))  # as long as the name of its folder, so wrapped
        assert file.endswith("label slots, or adaptive")
        assert "where" in file
        assert any("gpu=h100" in row for row in rows)
        assert "t.json: cannot be read: No such file or directory; there are no backends of it" in missing.stderr
        (routes.parent / "t.json").write_text("{}")
        assert "t.json: is not a list of groups" in check(routes).stderr
        (routes.parent / "t.json").write_text("[]")
        assert check(routes).stderr == ""
        pool = json.loads(check(routes, "--json").stdout)["pools"]["m"]
        assert pool["discovered"][1] == {
            "origin": f"file {routes.parent}/t.json",
            "where": {"gpu": "h100"},
            "max_concurrency": None,
            "max_concurrency_label": "slots",
            "has_api_key": False,
        }

    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_it_shows_no_secret(self, routes: Path, options: tuple[str, ...]) -> None:
        routes.write_text(GOOD)

        assert "hunter2" not in check(routes, *options).output

    def test_it_warns_of_what_is_odd(self, routes: Path) -> None:
        routes.write_text("pools:\n  spare: {backends: [http://a]}\nmodels: {m: {backends: [http://a]}}\n")

        result = check(routes)

        assert result.exit_code == 0
        assert result.stderr.startswith(f"warning: {routes}:2:3: pools.spare: no model uses this pool\n")
        assert [warning["path"] for warning in json.loads(check(routes, "--json").stdout)["warnings"]] == [
            "pools.spare"
        ]


class TestRoutesThatCannot:
    def test_every_problem_is_printed_as_compilers_do(self, routes: Path) -> None:
        routes.write_text(BAD)

        result = check(routes)

        assert result.exit_code == 1
        assert result.stdout == ""
        assert [line for line in result.stderr.splitlines() if not line.startswith("  hint: ")] == [
            f"{routes}:2:7: models.m.backend: unknown key",
            f"{routes}:3:47: models.n.timeouts.total: `5` has no unit",
            "2 problems: these routes cannot be served",
        ]

    def test_programs_get_them_in_parts(self, routes: Path) -> None:
        routes.write_text(BAD)

        result = check(routes, "--json")

        assert result.exit_code == 1
        outcome = json.loads(result.stdout)
        assert outcome["ok"] is False
        assert outcome["problems"][1] == {
            "file": str(routes),
            "line": 3,
            "column": 47,
            "path": "models.n.timeouts.total",
            "message": "`5` has no unit",
            "hint": "write `5s` or `5ms`; units are ms, s, m, h, d",
        }


class TestWrongUse:
    def test_a_path_that_does_not_exist(self, tmp_path: Path) -> None:
        assert check(tmp_path / "nowhere.yaml").exit_code == 2

    def test_no_path(self) -> None:
        assert check().exit_code == 2

    def test_an_option_that_does_not_exist(self, routes: Path) -> None:
        routes.write_text(GOOD)

        assert check(routes, "--strict").exit_code == 2


def test_the_schema_needs_no_routes() -> None:
    result = check("--schema")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == json_schema()


STEERED = """\
pools: {gpu: {backends: [http://a]}, cpu: {backends: [http://b]}, next: {backends: [http://c]}}
objectives: {chat: {deployment: {target: 95, under: 10m}}}
models:
  llama:
    objective: chat
    versions: {v1: {pools: [gpu, cpu]}, v2: {pools: [next]}}
    canary: {stable: v1, candidate: v2, mirror: 10, start: manual}
    rules:
      - {when: {class: batch, tools: false}, use: [cpu, gpu]}
      - {when: {prompt_tokens: "<256", max_tokens: ">64"}, use: [cpu]}
      - {use: [gpu, cpu], spill_at_burn: 3}
"""


class TestRoutesThatSteer:
    def test_it_shows_the_rollout_and_the_rules(self, routes: Path) -> None:
        routes.write_text(STEERED)

        lines = [line.split() for line in check(routes).stdout.splitlines()]

        rollout = "llama v1 -> v2 auto: 1 5 25 50 95 10m, last 1h 20 10 % manually pause"
        assert rollout.split() in lines
        assert ["llama", "class", "batch,", "without", "tools", "cpu,", "gpu", "6"] in lines
        assert ["prompt", "tokens", "up", "to", "255,", "max_tokens", "from", "65", "cpu", "6"] in lines
        assert ["all", "requests", "gpu,", "cpu", "3"] in lines
        assert ["deployment", "95", "%", "up", "to", "10m"] in lines

    def test_json_has_them_too(self, routes: Path) -> None:
        routes.write_text(STEERED)

        told = json.loads(check(routes, "--json").stdout)["models"]["llama"]

        assert (told["canary"]["candidate"], told["canary"]["steps"]) == ("v2", [])
        assert told["rules"][2] == {"when": "all requests", "use": ["gpu", "cpu"], "spill_at_burn": 3.0}

    @pytest.mark.parametrize(
        ("canary", "warned"),
        [
            ("max_hold: 30m", "below about 2.9 requests/s a step is predicted to take longer than `max_hold`, 30m"),
            ("max_hold: 30m, on_stall: rollback", "`max_hold`, 30m: the rollout is then rolled back"),
            ("max_hold: 90d", ""),
            ("start: auto", ""),
        ],
    )
    def test_it_warns_of_a_max_hold_that_is_shorter_than_a_step_will_take(
        self, routes: Path, canary: str, warned: str
    ) -> None:
        routes.write_text(
            "pools: {gpu: {backends: [http://a]}, next: {backends: [http://c]}}\n"
            "models: {m: {versions: {v1: {pools: [gpu]}, v2: {pools: [next]}}, "
            f"canary: {{stable: v1, candidate: v2, {canary}}}}}}}\n"
        )

        result = check(routes)

        assert result.exit_code == 0
        assert warned in result.stderr
        assert bool(warned) == ("beyond max_hold" in result.stdout) == bool(result.stderr)


def test_pools_that_scale_from_zero_are_shown_without_the_url_of_their_webhook(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(
        "pools:\n"
        "  gpu: {backends: [http://a], scale_from_zero: {hold: 90s, wake: 'https://host/s3cret'}}\n"
        "  cpu: {backends: [http://b], scale_from_zero: {max_held: 2000}, capacity: {min: 0, max: 2}}\n"
        "models: {m: {versions: {v1: {pools: [gpu, cpu]}}}}\n"
    )
    shown = [line.split() for line in check(path).stdout.splitlines()]
    assert ["gpu", "200", "requests", "90s", "webhook"] in shown
    assert ["cpu", "2,000", "requests", "5m", "capacity"] in shown
    assert "s3cret" not in check(path).output
