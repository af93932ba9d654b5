import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.bench import against
from loadtest.bench.measure import LONGEST
from loadtest.bench.summary import Summary

ON = Summary(200.0, 300.0, 8.0, 900.0, 9.0, (0.2, 1.0), (0.1, 0.5), 30.0, dict.fromkeys(LONGEST, 2000.0))
OFF = Summary(150.0, 250.0, 8.0, 900.0, connects_per_10k=30.0)


def pairs(which: str = "on", **now: Any) -> list[tuple[against.Sets, against.Sets]]:
    then = {"on": ON, "off": OFF}
    return [(then | {which: replace(then[which], **now)}, then)] * 10


def test_the_table_shows_both_their_ratio_and_its_interval() -> None:
    measured = pairs(plain_us=220.0)
    judged = against.judge(measured)
    lines = against.markdown(measured, judged, "0123456").splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[2:4]] == ["0123456", "now"]
    plain = next(line for line in lines if "plain request" in line)
    assert [cell.strip() for cell in plain.split("|")[2:-1]] == ["200", "220", "1.100", "1.100 to 1.100", "SLOWER"]
    stream = next(line for line in lines if "1-chunk" in line)
    assert stream.split("|")[-2].strip() == "yes"


def test_the_table_has_every_row_that_was_measured_and_no_other() -> None:
    titles = [row.title for row, _ in against.judge(pairs())]
    assert "on: added TTFT at low load, p99, ms" in titles
    assert "on: CPU per body of 1 MB, one message, ms" in titles
    assert "off: CPU per plain request, us" in titles
    assert not any(title.startswith("off: added") for title in titles)


@pytest.mark.parametrize(
    ("now", "passes"),
    [({}, True), ({"plain_us": 205.0}, True), ({"plain_us": 220.0}, False), ({"added_ttft_ms": (0.2, 2.0)}, False),
     ({"connects_per_10k": 0.0}, True), ({"errors": 1}, False)],
)  # fmt: skip
def test_it_passes_unless_a_row_is_slower_or_requests_fail_that_did_not(now: dict[str, Any], passes: bool) -> None:
    measured = pairs(**now)
    assert against.passes(measured, against.judge(measured)) is passes


def test_the_rows_with_one_backend_count_too() -> None:
    measured = pairs("off", plain_us=170.0)
    assert against.passes(measured, against.judge(measured)) is False


def test_a_commit_is_unpacked_and_its_own_code_would_run(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "gateway").mkdir(parents=True)
    (repository / "gateway" / "__init__.py").write_text("OLD = True\n")
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "Old"], check=True)
    (repository / "gateway" / "__init__.py").write_text("OLD = False\n")
    checkout = against.unpack("HEAD", tmp_path / "out", repository)
    assert (checkout.root / "gateway" / "__init__.py").read_text() == "OLD = True\n"
    checkout.require_own_code()
    with pytest.raises(SystemExit, match="no such commit"):
        against.unpack("nonsense", tmp_path / "out", repository)


def test_a_commit_is_compiled_as_it_would_be_installed(tmp_path: Path) -> None:
    then = against.Checkout("then", tmp_path)
    then.compile()
    (tmp_path / "hatch_build.py").write_text("import pathlib; pathlib.Path(__file__).with_name('compiled').touch()\n")
    then.compile()
    assert (tmp_path / "compiled").exists()


def test_what_would_run_other_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="python runs"):
        against.Checkout("empty", tmp_path).require_own_code()
