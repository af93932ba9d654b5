"""The Dockerfile copies what is there, and `make image`, which takes minutes, runs its steps below one folder."""

import re
from pathlib import Path

from deploy.image import PATHS, context, instructions

ROOT = Path(__file__).parents[2]
BUILD, FINAL = instructions((ROOT / "Dockerfile").read_text())


def test_the_build_writes_nowhere_but_where_make_image_puts_it() -> None:
    steps = [each.text for each in BUILD if each.name == "RUN"]
    assert len(steps) == 4
    named = {path for step in steps for path in re.findall(r"(?<![\w.'*])/[a-z]\w*(?:/\w+)*", step)}
    assert {path for path in named if not path.startswith(PATHS)} == set()
    assert all(any(path.startswith(each) for path in named) for each in PATHS)


def test_what_is_copied_is_in_the_context(tmp_path: Path) -> None:
    context(tmp_path)
    copied = [file for each in BUILD if each.name == "COPY" for file in each.text.split()[:-1]]
    assert "gateway/" in copied
    assert [file for file in copied if not (tmp_path / file).exists()] == []
    assert not (tmp_path / "tests").exists()
    assert not (tmp_path / "deploy").exists()


def test_the_image_runs_as_a_user_that_kubernetes_can_tell_from_root() -> None:
    [user] = [each.text for each in FINAL if each.name == "USER"]
    assert int(user) > 0
    assert f"--uid {user}" in next(each.text for each in FINAL if each.name == "RUN")
