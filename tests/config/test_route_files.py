import os
from itertools import count
from pathlib import Path

import pytest

from gateway.config import sources
from gateway.config.load import load_routes
from gateway.config.problems import RoutesError
from gateway.config.sources import MAX_BYTES

ROUTES = b"models: {m: {backends: [http://a]}}\n"
A_FILE_OF = b"models:\n  %s: {backends: [http://%s]}\n"


def problem_with(path: Path) -> str:
    with pytest.raises(RoutesError) as caught:
        load_routes(path, {})
    (problem,) = caught.value.problems
    return f"{Path(problem.file).name}:{problem.line}:{problem.column}: {problem.message}"


def test_a_folder_is_all_its_visible_yaml_files(tmp_path: Path) -> None:
    for name, model in (("b.yml", b"b"), ("a.yaml", b"a"), (".hidden.yaml", b"h"), ("c.yaml~", b"c"), ("d.json", b"d")):
        (tmp_path / name).write_bytes(A_FILE_OF % (model, model))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "e.yaml").write_bytes(A_FILE_OF % (b"e", b"e"))

    table = load_routes(tmp_path, {})

    assert list(table.models) == ["a", "b"]
    assert table.sources == (str(tmp_path / "a.yaml"), str(tmp_path / "b.yml"))


def test_a_mounted_config_map_is_read_through_its_links_once(tmp_path: Path) -> None:
    (tmp_path / "..2025").mkdir()
    (tmp_path / "..2025" / "routes.yaml").write_bytes(ROUTES)
    (tmp_path / "..data").symlink_to("..2025")
    (tmp_path / "routes.yaml").symlink_to("..data/routes.yaml")

    assert load_routes(tmp_path, {}).sources == (str(tmp_path / "routes.yaml"),)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xef\xbb\xbf" + ROUTES, id="byte order mark"),
        pytest.param(ROUTES.replace(b"\n", b"\r\n"), id="lines of another system"),
        pytest.param(ROUTES.rstrip(), id="no end of the last line"),
        pytest.param(b"%YAML 1.2\n---\n" + ROUTES + b"...\n", id="document markers"),
        pytest.param("# für den Rechner \U0001f600\n".encode() + ROUTES, id="comments in any script"),
    ],
)
def test_text_that_is_fine(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_bytes(data)

    assert list(load_routes(path, {}).models) == ["m"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", "r.yaml:1:1: is empty", id="nothing"),
        pytest.param(b"\n \n", "r.yaml:1:1: is empty", id="white space"),
        pytest.param(b"# caf\xe9\n" + ROUTES, "r.yaml:1:6: is not UTF-8", id="Latin-1"),
        pytest.param("models:".encode("utf-16"), "r.yaml:1:1: is not UTF-8", id="UTF-16"),
        pytest.param("#é\nab\0".encode(), "r.yaml:2:3: the character U+0000 is not allowed in YAML", id="zeros"),
        pytest.param(b"#" * (MAX_BYTES + 1), "r.yaml:1:1: is larger than 1 MiB", id="too much"),
        pytest.param(b"[" * 100_000, "r.yaml:1:33: is nested deeper than 32 levels", id="too deep"),
        pytest.param(b"- " * 100_000, "r.yaml:1:65: is nested deeper than 32 levels", id="too deep in blocks"),
    ],
)
def test_text_that_is_not(data: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(data)

    assert problem_with(path) == expected


def test_aliases_cannot_blow_a_file_up(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    path = tmp_path / "r.yaml"
    path.write_text("\n".join(lines))

    assert problem_with(path) == "r.yaml:6:5: is too large once its aliases are expanded"


def test_aliases_cannot_nest_deeper_than_text_can(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("\n".join(["a0: &a0 x", *(f"a{n}: &a{n} [[[[[*a{n - 1}]]]]]" for n in range(1, 12))]))

    assert problem_with(path) == "r.yaml:8:12: is nested deeper than 32 levels once its aliases are expanded"


def test_paths_that_lead_to_no_routes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")

    assert problem_with(tmp_path / "nowhere") == "nowhere:1:1: cannot be read: No such file or directory"
    assert problem_with(tmp_path / "empty") == "empty:1:1: no *.yaml or *.yml file in this folder"
    assert problem_with(tmp_path / "pipe.yaml") == "pipe.yaml:1:1: is not a regular file"


def test_every_beginning_of_a_file_in_braces_is_a_problem_and_never_a_part_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    whole = b"{models: {m: {backends: [http://a]}, n: {backends: [http://b, http://c]}}}"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(RoutesError):
            load_routes(path, {})


def test_a_file_that_does_not_hold_still_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "routes.yaml"
    path.write_bytes(ROUTES)
    read_all, changes = sources._read_all, count(1)  # noqa: SLF001 - what reads is put in its place

    def while_somebody_writes(snapshot: dict[Path, tuple[int, int, int]]) -> object:
        found = read_all(snapshot)
        moment = next(changes)
        os.utime(path, ns=(moment, moment))
        return found

    monkeypatch.setattr(sources, "_read_all", while_somebody_writes)
    with pytest.raises(RoutesError, match="changes while it is being read"):
        load_routes(path, {})
    assert next(changes) == 4, "it is read three times before it is given up"
