"""TLS on both listeners, and clients that must show a certificate."""

import asyncio
import ssl
from functools import partial
from pathlib import Path

import httpx
import pytest

from gateway.cli.asking import ask as ask_admin
from gateway.settings import Tls
from tests.e2e.certificates import known, sign
from tests.e2e.fakes import backends, good
from tests.e2e.harness import chat, gateway, routes
from tests.waiting import patient_client

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    sign(folder)
    return folder


@pytest.mark.parametrize("client_ca", [False, True])
async def test_both_listeners_speak_tls_and_can_want_certificates(
    tmp_path: Path, files: Path, client_ca: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = Tls(files / "server.pem", files / "server.key", files / "ca.pem" if client_ca else None)
    async with (
        backends(good) as (fake,),
        gateway(tmp_path, routes(fake.url), tls=tls, admin_tls=tls) as running,
    ):
        assert running.data.startswith("https://")
        assert running.admin.startswith("https://")
        async with patient_client(verify=known(files, certificate=True), trust_env=False) as client:
            answer = await client.post(f"{running.data}/v1/chat/completions", json=chat())
            assert answer.text.endswith("data: [DONE]\n\n")
            assert (await client.get(f"{running.admin}/admin/status")).status_code == 200
        async with patient_client(verify=known(files, certificate=False), trust_env=False) as stranger:
            for url in (f"{running.data}/health", f"{running.admin}/health"):
                if client_ca:
                    with pytest.raises(httpx.TransportError):
                        await stranger.get(url)
                else:
                    assert (await stranger.get(url)).status_code == 200
        for name, file in (("CA", "ca.pem"), ("CERTIFICATE", "client.pem"), ("KEY", "client.key")):
            monkeypatch.setenv(f"TIDEGATE_ADMIN_{name}", str(files / file))
        status = await asyncio.to_thread(partial(ask_admin, running.admin, "GET", "/admin/status"))
        assert status["backends"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_versions_of_tls_are_not_spoken(tmp_path: Path, files: Path) -> None:
    tls = Tls(files / "server.pem", files / "server.key")
    old = known(files, certificate=False)
    old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1
    async with (
        backends(good) as (fake,),
        gateway(tmp_path, routes(fake.url), tls=tls, admin_tls=tls) as running,
        patient_client(verify=old, trust_env=False) as client,
    ):
        for url in (running.data, running.admin):
            with pytest.raises(httpx.TransportError):
                await client.get(f"{url}/health")


def test_a_key_without_a_certificate_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="certificate"):
        Tls(key=Path("x"))
