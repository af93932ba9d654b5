"""What is compiled, and what that depends on."""

import ast
import fcntl
import importlib.util
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.waiting import DEADLINE

ROOT = Path(__file__).parents[2]
GATEWAY = ROOT / "gateway"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imported(source: Path) -> Iterator[str]:
    """Yield the modules of the package that a module imports, as paths below it."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "gateway":
            below = GATEWAY.joinpath(*node.module.split(".")[1:])
            for path in (below, *(below / each.name for each in node.names)):
                if path.with_suffix(".py").is_file():
                    yield str(path.with_suffix(".py").relative_to(GATEWAY))


def test_what_stays_interpreted_is_there(build: ModuleType) -> None:
    found = build.sources(build.COMPILED)
    assert set(build.INTERPRETED) <= {*found, *(name.rpartition("/")[0] for name in found)}


def waits_while_it_handles(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that wait in an `except` or a `finally`, as leaving an `async with` may do.

    Leaving `asyncio.timeout` waits for nothing.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            for statement in (*node.finalbody, *(each for handler in node.handlers for each in handler.body)):
                yield from (each.lineno for each in ast.walk(statement) if isinstance(each, ast.Await | ast.AsyncFor))
        elif isinstance(node, ast.AsyncWith):
            yield from (node.lineno for each in node.items if "asyncio.timeout(" not in ast.unparse(each))


def test_no_compiled_coroutine_waits_while_it_handles_an_exception(build: ModuleType) -> None:
    """Mypyc does not put away the exception meanwhile: `sys.exc_info()` of the whole thread keeps it for good."""
    found = {name: list(waits_while_it_handles(ast.parse((GATEWAY / name).read_text()))) for name in build.modules()}
    assert {name: lines for name, lines in found.items() if lines} == {}


KEYWORDS = frozenset(
    ("_alignof", "_asm", "_const", "_inline", "_restrict", "_signed", "_thread", "_typeof", "_volatile")
)
"""Attributes that gcc takes for keywords: mypyc puts a `_` before each."""


def test_no_attribute_of_a_compiled_class_is_a_keyword_of_c(build: ModuleType) -> None:
    found = {
        name: node.attr
        for name in build.modules()
        for node in ast.walk(ast.parse((GATEWAY / name).read_text()))
        if isinstance(node, ast.Attribute) and node.attr in KEYWORDS
    }
    assert found == {}


def test_such_a_wait_is_found() -> None:
    source = "async def f():\n try:\n  pass\n finally:\n  await g()\n async with h():\n  pass\n"
    assert list(waits_while_it_handles(ast.parse(source))) == [5, 6]


def test_whatever_compiled_modules_import_is_watched_for_changes(build: ModuleType) -> None:
    """Types are compiled in, so that an edited module must not meet others that were compiled beside its old self."""
    watched = set(build.sources(build.COMPILED + build.DEPENDED_ON))
    assert {name for each in build.modules() for name in imported(GATEWAY / each)} - watched == set()


def test_the_record_names_each_source_once(build: ModuleType) -> None:
    names = [line.split("  ")[1] for line in build.record(pgo=False).splitlines() if not line.startswith("#")]
    assert len(names) == len(set(names))
    assert {"exchange.py", "wire/client.py", "errors.py"} <= set(names)


def test_the_record_tells_the_tools_and_how_they_were_used(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build.record(pgo=False).splitlines()[0]
    assert "mypy" in first
    monkeypatch.setenv("MYPYC_OPT_LEVEL", "9")
    assert "-O9" in build.record(pgo=False).splitlines()[0]
    monkeypatch.setattr(build, "__file__", str(ROOT / "pyproject.toml"))
    assert build.record(pgo=False).splitlines()[0] != first.replace("-O1", "-O9")


def test_the_part_of_the_runtime_that_is_repaired_is_the_one_that_is_locked(build: ModuleType) -> None:
    runtime = Path(importlib.import_module("mypyc.build").include_dir(), build.SLICES)
    assert build._runtime() == runtime  # noqa: SLF001 - what the build reads
    assert runtime.read_text().count(build.REPAIRED[0]) == 1


def test_with_a_runtime_that_cannot_be_repaired_nothing_is_compiled(build: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "mypyc" / "lib-rt").mkdir(parents=True)
    (tmp_path / "mypyc" / "__init__.py").touch()
    (tmp_path / "mypyc" / "lib-rt" / build.SLICES).write_text("endn = Something(else);\n")
    done = subprocess.run(
        [sys.executable, ROOT / "hatch_build.py"],
        env=os.environ | {"TIDEGATE_PURE": "", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    if "C compiler" not in done.stdout and "Python.h" not in done.stdout:
        assert "whose runtime can be repaired" in done.stdout
    assert "Compiling" not in done.stdout


def test_who_waits_for_another_compile_says_so(
    build: ModuleType, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    # pytest's own capture loses what another thread prints while it is read.
    said = io.StringIO()
    monkeypatch.setattr(sys, "stdout", said)
    with open(work / "lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = threading.Thread(target=build.compile_all, args=(built, work))
        waiting.start()
        deadline = time.monotonic() + DEADLINE
        while waiting.is_alive() and "\n" not in said.getvalue() and time.monotonic() < deadline:
            waiting.join(timeout=0.01)
        assert said.getvalue() == "Waiting for another compile in this checkout\n"
        assert waiting.is_alive()
    waiting.join(timeout=DEADLINE)
    assert build.is_current(built)


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"TIDEGATE_PURE": "1"}, "TIDEGATE_PURE is set"),
        ({"TIDEGATE_PURE": "", "PATH": os.devnull}, "there is no C compiler"),
        ({"TIDEGATE_PURE": "", "CC": "no-such-compiler -O9"}, "there is no C compiler"),
    ],
)
def test_where_nothing_can_be_compiled_one_line_says_why(environment: dict[str, str], why: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "hatch_build.py"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (
        f"The data path is not compiled, so requests cost twice as much: {why}\n",
        "",
    )


def test_another_compiler_does_where_the_one_that_made_python_is_not_there(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.compiler() is None
    (tmp_path / "clang").touch(mode=0o755)
    assert build.compiler() == "clang"


@pytest.fixture
def built(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is not up to date: with what was compiled for this Python, and for another."""
    folder = tmp_path / "compiled"
    (folder / "gateway").mkdir(parents=True)
    for name in (f"gateway/gone{build.SUFFIX}", "gateway/gone.other.so", build.RECORD, "sources.other.so.sha256"):
        (folder / name).write_text("old")
    new = tmp_path / "new"
    (new / "gateway").mkdir(parents=True)
    (new / "gateway" / f"exchange{build.SUFFIX}").write_text("new")
    monkeypatch.setattr(build, "_translated", lambda *_: [])
    monkeypatch.setattr(build, "_compiled", lambda *_: new)
    monkeypatch.delenv("TIDEGATE_PGO", raising=False)
    return folder


def test_what_is_compiled_replaces_what_was_and_leaves_what_is_another_pythons(
    build: ModuleType, built: Path, tmp_path: Path
) -> None:
    build.compile_all(built, tmp_path / "work")
    assert {str(each.relative_to(built)) for each in built.rglob("*") if each.is_file()} == {
        f"gateway/exchange{build.SUFFIX}",
        "gateway/gone.other.so",
        build.RECORD,
        "sources.other.so.sha256",
    }
    assert (built / build.RECORD).read_text() == build.record(pgo=False)


def test_what_is_up_to_date_is_not_compiled_again(
    build: ModuleType, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.compile_all(built, tmp_path / "work")
    monkeypatch.setattr(build, "_translated", lambda *_: pytest.fail("it is up to date"))
    build.compile_all(built, tmp_path / "not needed")
    assert not (tmp_path / "not needed").exists()  # a checkout that is read-only will do


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError])
def test_compiling_that_is_broken_off_changes_nothing(
    build: ModuleType, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def breaks(*_: object) -> Path:
        raise error

    monkeypatch.setattr(build, "_compiled", breaks)
    with pytest.raises(error):
        build.compile_all(built, tmp_path / "work")
    assert (built / f"gateway/gone{build.SUFFIX}").read_text() == (built / build.RECORD).read_text() == "old"


def test_with_a_profile_it_is_compiled_twice_and_good_enough_for_those_that_want_none(
    build: ModuleType, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.compile_all(built, tmp_path / "work")
    monkeypatch.setenv("TIDEGATE_PGO", "1")
    monkeypatch.setattr(build, "FOLDER", built)
    assert not build.is_current(built)
    did: list[str] = []
    compiled = build._compiled  # noqa: SLF001 - stands in for minutes of a compiler

    def noted(extensions: list[Any], work: Path, flags: tuple[str, ...]) -> Path:
        did.append(flags[0].partition("=")[0])
        return Path(compiled(extensions, work, flags))

    monkeypatch.setattr(build, "_compiled", noted)
    monkeypatch.setattr(build, "_train", lambda _: did.append(f"trained, {(built / build.RECORD).exists()}"))
    build.compile_all(built, tmp_path / "work")
    assert did == ["-fprofile-generate", "trained, True", "-fprofile-use"]
    assert (built / build.RECORD).read_text() == build.record(pgo=True)
    assert ", PGO, " in build.record(pgo=True).splitlines()[0]
    monkeypatch.delenv("TIDEGATE_PGO")
    assert build.is_current(built)


def test_without_a_profile_what_counted_for_it_does_not_run(
    build: ModuleType, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_PGO", "1")
    monkeypatch.setattr(build, "FOLDER", built)
    monkeypatch.setattr(build, "TRAINING", ("--no-such-option",))
    with pytest.raises(SystemExit, match=r"No such option(.|\n)*failed, so there is no profile"):
        build.compile_all(built, tmp_path / "work")
    assert not (built / build.RECORD).exists()
    monkeypatch.setattr(build, "TRAINING", ("--version",))
    with pytest.raises(SystemExit, match="left no profile: TIDEGATE_PGO=1 needs gcc, and sources"):
        build.compile_all(built, tmp_path / "work")


def test_a_wheel_is_built_of_what_is_installed_and_holds_what_runs_here(build: ModuleType, tmp_path: Path) -> None:
    """Without an index, with what the locks list."""
    at = build.FOLDER / build.RECORD
    compiled = build.is_current(build.FOLDER) and not build.missing()
    command = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", tmp_path, ROOT],
        env=os.environ | {"TIDEGATE_PURE": "" if compiled else "1"},
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = {each for each in zipfile.ZipFile(wheel).namelist() if each.startswith("gateway/_compiled/")}
    expected = (*build.compiled_files(build.FOLDER), at) if compiled else ()
    assert names == {f"gateway/_compiled/{each.relative_to(build.FOLDER)}" for each in expected}
    assert wheel.name.endswith("py3-none-any.whl") is not compiled


def unfinished(tree: ast.Module) -> Iterator[str]:
    """Yield the constants of a module that are looked up in a dictionary each time they are read."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            yield from (ast.unparse(each) for each in node.targets if ast.unparse(each).isupper())


PATCHED = {
    "wire/idle_connections.py": {"MAX_IDLE"},
    "wire/dial.py": {"NEXT_AFTER"},
    "telemetry/access_log.py": {"MAX_LINES", "_CLOSE_SECONDS"},
    "proxy/reading.py": {"PATIENCE"},
    "proxy/relay.py": {"KEEP_ALIVE"},
    "proxy/searching.py": {"SECONDS", "MOST"},
}
"""Constants that tests replace, which nothing can do to final ones."""


def test_constants_that_are_compiled_are_final(build: ModuleType) -> None:
    found = {name: set(unfinished(ast.parse((GATEWAY / name).read_text()))) for name in build.modules()}
    assert {name: names for name, names in found.items() if names} == PATCHED
