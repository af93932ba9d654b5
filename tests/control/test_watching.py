"""When files are read again."""

import os
from pathlib import Path

import pytest

from gateway.control.watching import Reread

pytestmark = pytest.mark.anyio


def replace(file: Path, text: str) -> None:
    fresh = file.with_name("fresh")
    fresh.write_text(text)
    os.replace(fresh, file)


async def test_a_bad_file_is_told_once_and_read_again_when_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    file.write_text("1")
    read: list[int] = []
    reread = Reread("numbers", [file], lambda: read.append(int(file.read_text())))
    reread.read()
    replace(file, "no number")
    for _ in range(5):
        await reread.look()
    assert read == [1]
    assert caplog.text.count("files not read, their last content stays in use") == 1
    replace(file, "2")
    for _ in range(5):
        await reread.look()
    assert read == [1, 2]
    await reread.again()
    assert read == [1, 2, 2], "when asked, changed or not"


def test_the_first_reading_has_to_succeed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Reread("numbers", [tmp_path / "no"], (tmp_path / "no").unlink).read()
