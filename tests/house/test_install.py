"""A lock installs what it lists, whatever the index offers by then."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def publish(index: Path, name: str, version: str, *requirements: str) -> str:
    """Put a wheel without content into a simple index; return its line of a lock."""
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Provides-Extra: more"]
    members = {
        "METADATA": "\n".join([*metadata, *(f"Requires-Dist: {each}" for each in requirements), ""]),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    folder = f"{name}-{version}.dist-info"
    record = [f"{folder}/{member},sha256={_digest(text)},{len(text)}" for member, text in members.items()]
    members["RECORD"] = "\n".join([*record, f"{folder}/RECORD,,", ""])
    (index / name).mkdir(parents=True, exist_ok=True)
    wheel = index / name / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, text in members.items():
            archive.writestr(f"{folder}/{member}", text)
    links = (f'<a href="{each.name}">{each.name}</a>' for each in sorted((index / name).glob("*.whl")))
    (index / name / "index.html").write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def install(environment: Path, lock: Path, index: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(
        [sys.executable, ROOT / "requirements" / "install.py", environment, lock],
        env=clean | {"PIP_INDEX_URL": index.as_uri(), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What install.py makes of a lock without packages: making it takes most of the time of each installation."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "lock.txt").write_text("")
    assert install(folder / "venv", folder / "lock.txt", folder).returncode == 0
    return folder / "venv"


@pytest.fixture
def environment(bare: Path, tmp_path: Path) -> Path:
    """An environment that install.py has made, of this test alone."""
    return shutil.copytree(bare, tmp_path / "venv", symlinks=True)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "index"


def test_a_lock_installs_what_it_lists_while_the_index_offers_newer_releases(tmp_path: Path, index: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(
        publish(index, "reporter", "1.0", "measurer[more]>=1.0") + publish(index, "measurer", "1.0", "reporter>=1.0")
    )
    publish(index, "reporter", "1.1", "measurer[more]>=1.0")
    publish(index, "measurer", "1.1")

    done = install(tmp_path / "venv", lock, index)

    assert done.returncode == 0, done.stderr
    packages = (tmp_path / "venv" / "lib").glob("python3.*/site-packages/*.dist-info")
    assert {each.name for each in packages} >= {"reporter-1.0.dist-info", "measurer-1.0.dist-info"}
    assert "Installing 2 packages" in done.stdout


def test_a_lock_that_lacks_a_package_is_refused(environment: Path, tmp_path: Path, index: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(publish(index, "reporter", "1.0", "measurer>=1.0"))
    publish(index, "measurer", "1.0")

    done = install(environment, lock, index)

    assert done.returncode == 1
    assert "reporter 1.0 requires measurer, which is not installed" in done.stderr


def test_a_package_that_was_changed_is_refused(environment: Path, tmp_path: Path, index: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(publish(index, "reporter", "1.0").replace("sha256:", "sha256:" + "0" * 8, 1)[:-9] + "\n")

    done = install(environment, lock, index)

    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_wrong_use_is_told() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "requirements" / "install.py"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr == "usage: install.py VENV LOCK\n"


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
