"""Files are read again when they change, wherever they lie: routes, secrets."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.fakes import backends, good
from tests.e2e.harness import Running, ask, chat, gateway, routes
from tests.e2e.processes import serving
from tests.waiting import DEADLINE, eventually, patient_client

pytestmark = pytest.mark.anyio


def mounted(folder: Path, **files: str) -> None:
    """Mount files as Kubernetes does a secret or a config map, or exchange all of them at once as it does."""
    folder.mkdir(parents=True, exist_ok=True)
    version = folder / f"..version-{len(list(folder.glob('..version-*')))}"
    version.mkdir()
    for name, text in files.items():
        (version / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_tmp").symlink_to(version.name)
    os.replace(folder / "..data_tmp", folder / "..data")


def with_key(url: str, file: Path) -> str:
    return json.dumps({"models": {"m": {"backends": [{"url": url, "api_key_file": str(file)}]}}})


async def sent_with(running: Running, key: str) -> None:
    """Wait until the engine is asked with a key."""
    wanted = f"Bearer {key}".encode()
    await eventually(lambda: wanted in running.backend().authorization)
    await running.ready()
    assert (await ask(running.port, chat(stream=False))).status == 200


async def test_a_key_is_read_again_wherever_it_lies(tmp_path: Path) -> None:
    secret = tmp_path / "secrets" / "vllm"
    mounted(secret, key="first")
    (tmp_path / "link").symlink_to(secret / "key")
    async with backends(good) as (fake,), gateway(tmp_path, with_key(fake.url, tmp_path / "link")) as running:
        await sent_with(running, "first")
        for turn in range(3):
            mounted(secret, key=f"next-{turn}")
            await sent_with(running, f"next-{turn}")
            assert f"Bearer next-{turn}".encode() in fake.calls[-1].head


async def test_routes_are_read_again_where_only_the_target_of_a_link_changes(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        mounted(tmp_path / "map", **{"routes.yaml": routes(old.url)})
        (tmp_path / "conf").mkdir()
        (tmp_path / "conf" / "served.yaml").symlink_to(tmp_path / "map" / "routes.yaml")
        for given in ("conf", "conf/served.yaml", "map/routes.yaml", "map"):
            mounted(tmp_path / "map", **{"routes.yaml": routes(old.url)})
            async with gateway(tmp_path, "", path=tmp_path / given) as running:
                mounted(tmp_path / "map", **{"routes.yaml": routes(new.url)})
                await eventually(lambda running=running: running.backend().spec.port == new.port)  # type: ignore[misc]


async def test_a_secret_that_comes_later_ends_the_failure_and_a_bad_one_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        reloader = running.app.control.reloader
        (tmp_path / "routes.yaml").write_text(with_key(fake.url, tmp_path / "later" / "key"))
        await eventually(lambda: reloader.failure is not None)
        mounted(tmp_path / "later", key="late")
        await sent_with(running, "late")
        assert reloader.failure is None
        failures = reloader.failures
        mounted(tmp_path / "later", key="two\nlines")
        await eventually(lambda: reloader.failures > failures)
        await asyncio.sleep(1.5)
        assert reloader.failures == failures + 1
        await sent_with(running, "late")
        assert "two\nlines" not in caplog.text


async def test_a_file_that_does_not_change_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("same")
    async with backends(good) as (fake,), gateway(tmp_path, with_key(fake.url, tmp_path / "key")) as running:
        await asyncio.sleep(1.5)
        assert running.app.control.reloader.loads == 0


async def test_sighup_reads_everything_again_changed_or_not(tmp_path: Path) -> None:
    async with backends(good) as (fake,), serving(tmp_path, [fake.url]) as served, patient_client() as web:
        served.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(DEADLINE):
            while "tidegate_reloads_total 1.0" not in (await web.get(f"{served.urls[1]}/metrics")).text:
                await asyncio.sleep(0.02)
