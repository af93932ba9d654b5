"""What is compiled never hides a source that is another one by now."""

import os
import subprocess
import sys
from hashlib import sha256
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

import pytest

from gateway import native


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose one module was compiled."""
    folder = tmp_path / "_compiled"
    (folder / "gateway").mkdir(parents=True)
    (folder / "gateway" / f"exchange{native.SUFFIX}").touch()
    (folder / f"tidegate__mypyc{native.SUFFIX}").touch()
    (tmp_path / "exchange.py").write_text("A = 1\n")
    record = folder / native.RECORD.name
    record.write_text(f"# tools\n{sha256(b'A = 1' + os.linesep.encode()).hexdigest()}  exchange.py\n")
    monkeypatch.delenv("TIDEGATE_PURE", raising=False)
    monkeypatch.setattr(native, "PACKAGE", tmp_path)
    monkeypatch.setattr(native, "FOLDER", folder)
    monkeypatch.setattr(native, "RECORD", record)
    monkeypatch.setattr(sys, "meta_path", [each for each in sys.meta_path if not isinstance(each, native.Compiled)])
    return tmp_path


@pytest.mark.usefixtures("package")
def test_what_was_compiled_from_these_sources_runs() -> None:
    assert native.use() == ""
    assert (native.running(), native.why_interpreted()) == ("compiled", "")
    native.RECORD.write_text("# mypy 1.2.3, -O2, PGO, 1 modules\n")
    assert native.running() == "compiled with a profile"
    spec = sys.meta_path[0].find_spec("gateway.exchange", None)
    assert spec is not None
    assert isinstance(spec.loader, ExtensionFileLoader)
    assert sys.meta_path[0].find_spec("tidegate__mypyc", None) is not None
    assert sys.meta_path[0].find_spec("gateway.errors", None) is None


def test_a_source_that_was_edited_runs_itself(package: Path) -> None:
    (package / "exchange.py").write_text("A = 2\n")
    assert native.use() == "exchange.py has changed since it was compiled"
    assert native.running() == "pure Python: exchange.py has changed since it was compiled"


def test_a_source_that_is_gone_is_one_that_has_changed(package: Path) -> None:
    (package / "exchange.py").unlink()
    assert native.use() == "exchange.py has changed since it was compiled"


@pytest.mark.usefixtures("package")
def test_where_nothing_is_compiled_the_sources_run() -> None:
    native.RECORD.unlink()
    assert native.use() == "not compiled"
    assert native.why_interpreted() == "not compiled"


@pytest.mark.usefixtures("package")
def test_what_was_compiled_for_another_python_is_said_to_be() -> None:
    native.RECORD.rename(native.RECORD.with_name("sources.cpython-399-x86_64-linux-gnu.so.sha256"))
    assert native.use() == "compiled for another Python"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(("value", "why"), [("1", "TIDEGATE_PURE is set"), ("0", ""), ("", "")])
def test_the_sources_run_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch, value: str, why: str) -> None:
    monkeypatch.setenv("TIDEGATE_PURE", value)
    assert native.use() == why


def test_the_command_says_which_of_both_runs() -> None:
    ask = [sys.executable, "-m", "gateway.cli", "--version"]
    pure = subprocess.run(ask, env=os.environ | {"TIDEGATE_PURE": "1"}, capture_output=True, text=True, check=True)
    assert pure.stdout.endswith("(pure Python: TIDEGATE_PURE is set)\n")
    mine = subprocess.run(ask, capture_output=True, text=True, check=True)
    assert mine.stdout.endswith(f"({native.running()})\n")
