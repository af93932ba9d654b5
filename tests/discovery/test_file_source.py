"""Files of targets that change: by being replaced, by links that are exchanged, half written, gone and back."""

import json
import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config.origins import FileOrigin
from gateway.discovery.file_source import FileSource
from gateway.discovery.target import Target
from tests.background import in_background
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


def text(*hosts: str) -> str:
    return json.dumps([{"targets": [f"{host}:8000" for host in hosts]}])


def put(file: Path, content: str) -> None:
    """Replace a file in one step."""
    fresh = file.with_name("fresh")
    fresh.write_text(content)
    os.replace(fresh, file)


class Published:
    """What a source published last, and how often."""

    def __init__(self) -> None:
        self.hosts: list[str] | None = None
        self.times = 0

    def __call__(self, targets: Collection[Target]) -> None:
        self.hosts = [target.host for target in targets]
        self.times += 1


@asynccontextmanager
async def watched(file: Path) -> AsyncIterator[tuple[FileSource, Published]]:
    source, published = FileSource(FileOrigin(str(file)), interval=0.01), Published()
    async with in_background(source.run(published)):
        yield source, published


async def test_a_file_that_is_replaced_is_read_again_and_one_that_stays_confirms_what_it_holds(tmp_path: Path) -> None:
    file = tmp_path / "targets.json"
    file.write_text(text("a"))
    async with watched(file) as (source, published):
        await eventually(lambda: published.hosts == ["a"] and published.times > 3)
        put(file, text("a", "b"))
        await eventually(lambda: published.hosts == ["a", "b"])
        put(file, "[]")
        await eventually(lambda: published.hosts == [])
        assert (source.problem, source.errors) == ("", 0)
        assert repr(source) == f"<FileSource {file}>"


async def test_links_are_followed_as_kubernetes_mounts_a_config_map(tmp_path: Path) -> None:
    for name, host in (("one", "a"), ("two", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "targets.json").write_text(text(host))
    data, file = tmp_path / "..data", tmp_path / "targets.json"
    data.symlink_to("one")
    file.symlink_to("..data/targets.json")
    async with watched(file) as (_, published):
        await eventually(lambda: published.hosts == ["a"])
        (tmp_path / "fresh").symlink_to("two")
        os.replace(tmp_path / "fresh", data)
        await eventually(lambda: published.hosts == ["b"])


@pytest.mark.parametrize("torn", ["", text("a", "b")[:-3], '[{"targets": ["a:8000", "b"]}]', "null"])
async def test_what_is_torn_or_wrong_changes_nothing_and_is_told(tmp_path: Path, torn: str) -> None:
    file = tmp_path / "targets.json"
    file.write_text(text("a"))
    async with watched(file) as (source, published):
        await eventually(lambda: published.hosts == ["a"])
        file.write_text(torn)
        await eventually(lambda: source.problem != "")
        assert source.problem.startswith("the file ")
        assert (published.hosts, source.errors) == (["a"], 1)
        put(file, text("b"))
        await eventually(lambda: published.hosts == ["b"])
        assert source.problem == ""


async def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "targets.json"
    async with watched(file) as (source, published):
        await eventually(lambda: source.problem == "the file cannot be read: No such file or directory")
        assert published.hosts is None
        file.parent.mkdir()
        put(file, text("a"))
        await eventually(lambda: published.hosts == ["a"])
        file.unlink()
        await eventually(lambda: source.problem != "")
        assert published.hosts == ["a"]
