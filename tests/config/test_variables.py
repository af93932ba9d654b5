from pathlib import Path

import pytest

from gateway.config.load import load_routes
from gateway.config.problems import InvalidValueError, RoutesError
from gateway.config.table import RouteTable
from gateway.config.variables import expand


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${SET}", "one"),
        ("a${SET}b${SET}", "aonebone"),
        ("${SET:-two}", "one"),
        ("${UNSET:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${EMPTY}", ""),
        ("${UNSET:-}", ""),
        ("${UNSET:-http://a:1/x}", "http://a:1/x"),
        ("$SET and $", "$SET and $"),
        ("${NESTED}", "${SET}"),
    ],
)
def test_variables_are_replaced_once(text: str, expected: str) -> None:
    assert expand(text, {"SET": "one", "EMPTY": "", "NESTED": "${SET}"}) == expected


@pytest.mark.parametrize("text", ["${}", "${1A}", "${A", "${A-b}", "${A:b}"])
def test_what_begins_like_a_variable_must_be_one(text: str) -> None:
    with pytest.raises(InvalidValueError, match="does not start a variable"):
        expand(text, {"A": "x"})


def test_a_value_cannot_add_structure(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text('models: {m: {backends: [http://a], served_model: "${NAME}"}}')

    routes = load_routes(path, {"NAME": "x, aliases: [y]}\n# &a *b"})

    assert set(routes.names) == {"m"}
    assert routes.models["m"].versions["default"].served_model == "x, aliases: [y]}\n# &a *b"


class TestSecretFiles:
    def load(self, folder: Path) -> RouteTable:
        path = folder / "routes.yaml"
        path.write_text("models: {m: {backends: [{url: http://a, api_key_file: keys/a}]}}")
        return load_routes(path, {})

    @pytest.fixture
    def key_file(self, tmp_path: Path) -> Path:
        (tmp_path / "keys").mkdir()
        return tmp_path / "keys" / "a"

    def test_the_key_is_what_the_file_holds_and_the_file_is_a_source(self, tmp_path: Path, key_file: Path) -> None:
        key_file.write_text("sk-hunter2\n")

        routes = self.load(tmp_path)

        assert routes.pools["m"].backends[0].api_key == "sk-hunter2"
        assert routes.sources == (str(tmp_path / "routes.yaml"), str(key_file))

    def test_no_representation_shows_it(self, tmp_path: Path, key_file: Path) -> None:
        key_file.write_text("sk-hunter2")

        assert "hunter2" not in repr(self.load(tmp_path))

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "contains no usable secret"),
            (b"sk\nhunter2", "contains no usable secret"),
            ("clé".encode(), "contains no usable secret"),
            (b"hunter2" * 2000, "the file is larger than 8192 bytes"),
        ],
    )
    def test_what_cannot_be_a_key_is_a_problem_that_does_not_repeat_it(
        self, data: bytes, message: str, tmp_path: Path, key_file: Path
    ) -> None:
        key_file.write_bytes(data)

        with pytest.raises(RoutesError) as caught:
            self.load(tmp_path)

        assert [problem.message for problem in caught.value.problems] == [message]
        assert "hunter2" not in str(caught.value)


class TestFilesRelativeToTheRouteFile:
    """The routes may be named relative to the working directory, which a person who reads of a file need not be in."""

    def load(self, backend: str, folder: Path) -> RouteTable:
        (folder / "routes").mkdir()
        path = Path("routes", "routes.yaml")
        path.write_text(f"models: {{m: {{backends: [{backend}]}}}}")
        return load_routes(path, {})

    def test_a_secret_that_is_not_there_says_in_which_folder_but_not_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(RoutesError) as caught:
            self.load("{url: http://a, api_key_file: sk-hunter2}", tmp_path)
        (problem,) = caught.value.problems
        assert (problem.message, problem.hint) == (
            "there is no such file",
            f"name a file, relative to {tmp_path}/routes",
        )
        assert "hunter2" not in str(caught.value)

    def test_a_file_of_targets_is_known_by_its_whole_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (found,) = self.load("{file: targets.json}", tmp_path).pools["m"].discovered
        assert str(found.origin) == f"file {tmp_path}/routes/targets.json"
