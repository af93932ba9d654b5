"""`tidegate scaler`: KEDA's external scaler over gRPC, beside a gateway."""

import asyncio
import contextlib
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import typer

from gateway.cli.asking import ADMIN, Admin, NoAnswerError, errors, reached


def scaler(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Address to listen on; port 0 for any.", envvar="TIDEGATE_SCALER")
    ] = "127.0.0.1:9010",
    admin: Admin = ADMIN,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="PEM certificate chain, for TLS.", exists=True, dir_okay=False)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM private key.", exists=True, dir_okay=False)] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(help="PEM authorities; KEDA needs a certificate from one.", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """Tell KEDA over gRPC what pools want.

    For triggers of type external-push, with `pool: NAME` in their metadata. It follows the gateway at --admin, and
    wakes a pool that has no replica by a push. Needs the extra `grpc`: pip install 'tidegate[grpc]'.
    """
    if not _has_grpc():
        _end("this command needs grpcio, which is not installed: pip install 'tidegate[grpc]'")
    if (tls_certificate is None) is not (tls_key is None) or (tls_client_ca and not tls_certificate):
        raise typer.BadParameter("TLS needs --tls-certificate and --tls-key")
    try:
        url, options = reached(admin)
        asyncio.run(_served(listen, url, options, _credentials(tls_certificate, tls_key, tls_client_ca)))
    except (NoAnswerError, OSError) as error:
        _end(str(error))


def _has_grpc() -> bool:
    try:
        return find_spec("grpc") is not None
    except ModuleNotFoundError:
        return False


def _credentials(certificate: Path | None, key: Path | None, client_ca: Path | None) -> Any:
    """Return how connections come in, None without TLS; raises OSError for a file that cannot be read."""
    import grpc  # noqa: PLC0415 - an extra, which other commands do without

    if certificate is None or key is None:
        return None
    authorities = None if client_ca is None else client_ca.read_bytes()
    pairs = [(key.read_bytes(), certificate.read_bytes())]
    return grpc.ssl_server_credentials(pairs, authorities, require_client_auth=authorities is not None)


async def _served(listen: str, url: str, options: dict[str, Any], credentials: Any) -> None:
    from gateway.scaler.service import serve  # noqa: PLC0415 - as above
    from gateway.scaler.wants import Wants  # noqa: PLC0415

    host = listen.rpartition(":")[0]
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=5.0, **options) as client:
        wants = Wants(client)
        following = asyncio.create_task(wants.run())
        serving = asyncio.create_task(
            serve(wants, listen, credentials, lambda port: typer.echo(f"tidegate scaler on {host}:{port}, of {url}"))
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await serving
        finally:
            following.cancel()


def _end(words: str) -> NoReturn:
    errors.print(f"tidegate: {words}", markup=False)
    raise typer.Exit(1)
