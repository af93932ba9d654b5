"""Certificates, authorities and the admin token are read again when they change; connections that are open go on."""

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from gateway.settings import Tls
from tests.e2e.certificates import known, sign
from tests.e2e.fakes import backends, good
from tests.e2e.harness import gateway, routes
from tests.e2e.processes import running as process
from tests.waiting import DEADLINE, eventually, patient_client

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three folders `a`, `b`, `c` of certificates, `a` and `b` by one authority, `c` by another."""
    folder = tmp_path_factory.mktemp("signed")
    for name in "abc":
        (folder / name).mkdir()
        if name == "b":
            for file in ("ca.pem", "ca.key"):
                shutil.copy(folder / "a" / file, folder / "b" / file)
        sign(folder / name)
    return folder


def serial(files: Path, port: int) -> str:
    """Return the serial number of the certificate that a listener shows."""
    context = known(files, certificate=True)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as shown:
        der = shown.getpeercert(binary_form=True)
    assert der is not None
    return number(ssl.DER_cert_to_PEM_cert(der))


def number(pem: str) -> str:
    command = ("openssl", "x509", "-noout", "-serial")
    return subprocess.run(command, input=pem, capture_output=True, text=True, check=True).stdout


def locked(key: Path) -> str:
    """Return a key that only a password opens."""
    command = ("openssl", "ec", "-in", str(key), "-aes128", "-passout", "pass:x")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def shows(files: Path, port: int, certificate: Path) -> None:
    """Wait until new connections are shown a certificate."""
    wanted = number(certificate.read_text())
    async with asyncio.timeout(DEADLINE):
        while await asyncio.to_thread(serial, files, port) != wanted:
            await asyncio.sleep(0.05)


def mount(folder: Path, files: Path) -> Tls:
    """Mount a folder of certificates as Kubernetes does a secret, or exchange it."""
    folder.mkdir(exist_ok=True)
    version = folder / f"..{files.name}"
    if not version.exists():
        shutil.copytree(files, version)
    for name in ("server.pem", "server.key", "ca.pem"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_tmp").symlink_to(version.name)
    os.replace(folder / "..data_tmp", folder / "..data")
    return Tls(folder / "server.pem", folder / "server.key")


async def test_new_connections_get_the_new_certificate_and_open_ones_go_on(tmp_path: Path, signed: Path) -> None:
    secret = tmp_path / "secret"
    tls = mount(secret, signed / "a")
    async with (
        backends(good) as (fake,),
        gateway(tmp_path, routes(fake.url), tls=tls, admin_tls=tls) as running,
        patient_client(verify=known(signed / "a", certificate=False), trust_env=False) as web,
    ):
        ports = [int(url.rsplit(":", 1)[1]) for url in (running.data, running.admin)]
        assert (await web.get(f"{running.data}/ready")).status_code == 200
        (before,) = running.connections
        for name in ("b", "a", "b"):
            mount(secret, signed / name)
            for port in ports:
                await shows(signed / "a", port, signed / name / "server.pem")
            assert (await web.get(f"{running.data}/ready")).status_code == 200
            assert before in running.connections


async def test_a_bad_or_half_written_file_keeps_what_there_was_and_is_told_once(
    tmp_path: Path, signed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("server.pem", "server.key"):
        shutil.copy(signed / "a" / name, tmp_path / name)
    tls = Tls(tmp_path / "server.pem", tmp_path / "server.key")
    bad = {
        "server.pem": [
            "",
            "no certificate",
            (signed / "a" / "server.pem").read_text()[:300],
            (signed / "b" / "server.pem").read_text(),
        ],
        "server.key": [
            "",
            (signed / "a" / "server.key").read_text()[:60],
            locked(signed / "b" / "server.key"),
        ],
    }

    def told() -> int:
        return caplog.text.count("files not read, their last content stays in use")

    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), tls=tls) as running:
        for name, texts in bad.items():
            for text in texts:
                before = told()
                (tmp_path / name).write_text(text)
                await eventually(lambda before=before: told() > before)  # type: ignore[misc]
                await asyncio.sleep(1.2)
                assert told() == before + 1
                await shows(signed / "a", running.port, signed / "a" / "server.pem")
            shutil.copy(signed / "a" / name, tmp_path / name)
        for name in ("server.pem", "server.key"):
            shutil.copy(signed / "b" / name, tmp_path / name)
        await shows(signed / "a", running.port, signed / "b" / "server.pem")


async def test_clients_of_an_authority_that_is_no_more_do_not_get_in(tmp_path: Path, signed: Path) -> None:
    """Nor by resuming a session that they had."""
    shutil.copy(signed / "a" / "ca.pem", tmp_path / "clients.pem")
    tls = Tls(signed / "a" / "server.pem", signed / "a" / "server.key", tmp_path / "clients.pem")
    context = known(signed / "a", certificate=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # its sessions are known as soon as the handshake is over

    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), tls=tls) as running:

        def ask(session: ssl.SSLSession | None) -> ssl.SSLSession | None:
            with socket.create_connection(("127.0.0.1", running.port)) as plain:
                with context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as spoken:
                    spoken.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n")
                    assert spoken.recv(12) == b"HTTP/1.1 200"
                    return spoken.session

        session = await asyncio.to_thread(ask, None)
        shutil.copy(signed / "c" / "ca.pem", tmp_path / "clients.pem")
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    await asyncio.to_thread(ask, session)
                except OSError:
                    break
                await asyncio.sleep(0.05)


async def test_an_admin_token_is_exchanged_and_never_lost(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), token_file=file) as running:
        async with patient_client(base_url=running.admin) as web:

            async def status(token: str) -> int:
                return (await web.get("/admin/status", headers={"authorization": f"Bearer {token}"})).status_code

            assert (await status("first"), await status("second")) == (200, 401)
            file.write_text("second\n")
            async with asyncio.timeout(DEADLINE):
                while await status("second") != 200:
                    await asyncio.sleep(0.02)
            assert await status("first") == 401
            file.write_text("")
            await asyncio.sleep(1.5)
            assert (await status("second"), await status("x")) == (200, 401)


async def test_sighup_reads_certificates_at_once(tmp_path: Path, signed: Path) -> None:
    for name in ("server.pem", "server.key"):
        shutil.copy(signed / "a" / name, tmp_path / name)
    path = tmp_path / "routes.yaml"
    path.write_text(json.dumps({"models": {"m": {"backends": ["http://127.0.0.1:1"]}}}))
    options = ("--tls-certificate", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.key"))
    ports = ("--port", "0", "--admin-port", "0", "--state", "memory://")
    async with process("gateway.cli", "serve", str(path), *ports, *options) as served:
        await served.said("tidegate serves")
        served.process.send_signal(signal.SIGHUP)
        await served.said("files read again")
        served.process.send_signal(signal.SIGTERM)
        assert await served.ended() == 0


@pytest.mark.parametrize("wrong", ["certificate", "token"])
async def test_files_that_cannot_be_used_at_the_start_are_named(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(json.dumps({"models": {"m": {"backends": ["http://127.0.0.1:1"]}}}))
    (tmp_path / "bad").write_text("")
    option = "--tls-certificate" if wrong == "certificate" else "--admin-token-file"
    ports = ("--port", "0", "--admin-port", "0", "--state", "memory://")
    async with process("gateway.cli", "serve", str(path), *ports, option, str(tmp_path / "bad")) as served:
        assert await served.ended() == 1
        assert str(tmp_path / "bad") in "".join(served.err)
        assert "listen" not in "".join(served.err)
