"""Every problem that route files can have, word for word, is in problems.txt beside this file."""

from pathlib import Path

import pytest

from gateway.config.load import load_routes
from gateway.config.problems import Problem, RoutesError

ENVIRON = {"HOST": "vllm-0", "EMPTY": "", "SECRET": "hunter2 hunter2", "NUMBER": "31337", "KEY": "k"}
CASES = [
    (case.partition("\n")[0].removeprefix("# "), *case.partition("\n")[2].split("\n>>>>\n"))
    for case in (Path(__file__).parent / "problems.txt").read_text().split("====\n")
]


def problems_of(path: Path) -> str:
    with pytest.raises(RoutesError) as caught:
        load_routes(path, ENVIRON)
    text = str(caught.value).replace(f"{path}/", "").replace(f"{path.parent}/", "")
    return text.replace(str(path.parent), "/folder/of/the/route/file")


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_problem_says_where_it_is_what_is_wrong_and_what_would_be_right(
    text: str, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(text + "\n")

    assert problems_of(path) == expected.strip("\n")
    assert all(line.startswith("  hint: ") for line in expected.strip("\n").splitlines()[1::2])


@pytest.mark.parametrize("expected", [case[2] for case in CASES], ids=[case[0] for case in CASES])
def test_no_problem_repeats_a_secret_or_the_value_of_a_variable(expected: str) -> None:
    assert "hunter2" not in expected
    assert ENVIRON["NUMBER"] not in expected


def test_problems_of_all_files_come_at_once_sorted_by_file_and_line(tmp_path: Path) -> None:
    folder = tmp_path / "routes"
    folder.mkdir()
    (folder / "b.yaml").write_text("models:\n  n: {backends: [http://b], colour: red}\n  m: {backends: [ftp://c]}\n")
    (folder / "a.yaml").write_text("models:\n\n\n  k: {backend: [http://a]}\n")
    (folder / "c.yml").write_text("models: [\n")

    with pytest.raises(RoutesError) as caught:
        load_routes(folder, {})

    places = [(Path(problem.file).name, problem.line) for problem in caught.value.problems]
    assert places == [("a.yaml", 4), ("b.yaml", 2), ("b.yaml", 3), ("c.yml", 1)]


def test_a_name_in_two_files_cites_both_places(tmp_path: Path) -> None:
    folder = tmp_path / "routes"
    folder.mkdir()
    (folder / "a.yaml").write_text(
        "pools:\n  gpu: {backends: [http://a]}\nmodels:\n  m: {versions: {v1: {pools: [gpu]}}, aliases: [x]}\n"
    )
    (folder / "b.yaml").write_text(
        "pools:\n  gpu: {backends: [http://b]}\nmodels:\n  m: {backends: [http://b]}\n  x: {backends: [http://b]}\n"
    )

    assert problems_of(folder) == "\n".join(
        (
            "a.yaml:4:49: models.m.aliases[0]: `x` already names the model at b.yaml:5",
            "  hint: rename one of the two",
            "b.yaml:2:3: pools.gpu: the pool is already defined at a.yaml:2",
            "  hint: rename one of the two",
            "b.yaml:4:3: models.m: the model is already defined at a.yaml:4",
            "  hint: rename one of the two",
        )
    )


def test_a_file_that_cannot_be_read_makes_no_pool_of_other_files_missing(tmp_path: Path) -> None:
    folder = tmp_path / "routes"
    folder.mkdir()
    (folder / "models.yaml").write_text("models: {m: {versions: {v1: {pools: [gpu]}}}}\n")
    (folder / "pools.yaml").write_text("pools: {gpu: {backends: [http://a]}\n")

    (problem,) = problems_of(folder).splitlines()[::2]
    assert problem.startswith("pools.yaml:1:36: is not YAML: ")


def test_a_problem_has_parts_that_a_program_can_use(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("models: {m: {backends: [http://a], timeouts: {connect: 30}}}\n")

    with pytest.raises(RoutesError) as caught:
        load_routes(path, {})

    hint = "write `30s` or `30ms`; units are ms, s, m, h, d"
    assert caught.value.problems == (Problem(str(path), 1, 56, "models.m.timeouts.connect", "`30` has no unit", hint),)
