"""What counts as a change of files, and when it is acted on."""

import os
from pathlib import Path

import pytest

from gateway.config.file_marks import FileMarks


def marks(*files: Path) -> FileMarks:
    made = FileMarks(lambda: files)
    made.take()
    return made


def replace(file: Path, text: str) -> None:
    fresh = file.with_name("fresh")
    fresh.write_text(text)
    os.replace(fresh, file)


def swap(link: Path, target: Path) -> None:
    fresh = link.with_name("fresh-link")
    fresh.symlink_to(target)
    os.replace(fresh, link)


class TestChanges:
    def test_a_change_counts_once_it_has_lasted_for_a_look(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_text("a")
        of_file = marks(file)
        assert not of_file.have_changed()
        file.write_text("ab")
        assert not of_file.have_changed(), "it may be half written"
        file.write_text("abc")
        assert not of_file.have_changed(), "and was"
        assert of_file.have_changed()
        of_file.take()
        assert not of_file.have_changed()

    def test_a_file_without_rest_is_read_in_the_end(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        of_file = marks(file)
        looks = 0
        while True:
            file.write_text("x" * looks)
            looks += 1
            if of_file.have_changed():
                break
        assert 5 < looks < 20

    def test_a_file_of_the_same_size_and_time_is_another_one(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_text("a")
        status = file.stat()
        of_file = marks(file)
        replace(file, "b")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert [of_file.have_changed() for _ in range(2)] == [False, True]

    @pytest.mark.parametrize("depth", [1, 2])
    def test_links_are_followed_wherever_they_lead(self, tmp_path: Path, depth: int) -> None:
        """As Kubernetes mounts secrets: `key` leads to `..data/key`, and `..data` to a folder."""
        for name in ("one", "two"):
            (tmp_path / "elsewhere" / name).mkdir(parents=True)
            (tmp_path / "elsewhere" / name / "key").write_text("same")
        data = tmp_path / "elsewhere" / "..data"
        data.symlink_to("one")
        file = tmp_path / "key"
        for _ in range(depth - 1):
            (tmp_path / "between").symlink_to(data / "key")
        file.symlink_to(tmp_path / "between" if depth > 1 else data / "key")
        of_file = marks(file)
        swap(data, Path("two"))
        assert [of_file.have_changed() for _ in range(2)] == [False, True]

    def test_files_that_come_and_go_are_changes(self, tmp_path: Path) -> None:
        file = tmp_path / "folder" / "file"
        of_file = marks(file)
        file.parent.mkdir()
        file.write_text("")
        assert [of_file.have_changed() for _ in range(2)] == [False, True]
        of_file.take()
        file.unlink()
        assert [of_file.have_changed() for _ in range(2)] == [False, True]

    def test_a_file_that_is_gone_for_a_moment_has_not_changed(self, tmp_path: Path) -> None:
        file, aside = tmp_path / "file", tmp_path / "aside"
        file.symlink_to("target")
        (tmp_path / "target").write_text("a")
        of_file = marks(file)
        os.rename(file, aside)
        assert not of_file.have_changed()
        os.rename(aside, file)
        assert [of_file.have_changed() for _ in range(2)] == [False, False]

    def test_what_the_first_reading_showed_to_matter_is_watched_from_then_on(self, tmp_path: Path) -> None:
        found: list[Path] = []
        of_files = FileMarks(lambda: found)
        of_files.take()
        secret = tmp_path / "secret"
        secret.write_text("a")
        found.append(secret)
        of_files.adopt(found)
        assert not of_files.have_changed()
        replace(secret, "b")
        assert [of_files.have_changed() for _ in range(2)] == [False, True]
