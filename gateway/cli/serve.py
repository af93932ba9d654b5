"""`tidegate serve`: the gateway itself."""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway import native, systemd
from gateway.admin.protection import TokenRequired, require_token
from gateway.app import App
from gateway.config.addresses import parse_name_server
from gateway.config.load import load_routes
from gateway.config.problems import RoutesError
from gateway.config.table import RouteTable
from gateway.control.drain import DrainTimes
from gateway.control.webhook import Webhook
from gateway.discovery.kubernetes.cluster import ClusterSettings
from gateway.listeners import Addresses, FilesError, Sockets
from gateway.settings import Settings, Tls
from gateway.state.store import StateError
from gateway.telemetry.collector_url import check_endpoint
from gateway.telemetry.logs import configure
from gateway.telemetry.output import Output
from gateway.wire.edge import Edge, networks, origins
from gateway.wire.guard import Limits
from gateway.wire.long_event import MAX_EVENT
from gateway.workers.inherited import VARIABLE, Inherited, inherited
from gateway.workers.problems import StartError

_log = logging.getLogger(__name__)
_STANDARD_ERROR = 2
_LAST_PORT = 65_535
_MOST_WORKERS = 256


def serve(  # noqa: PLR0917 - one parameter an option
    routes: Annotated[Path, typer.Argument(metavar="ROUTES", help="Route file, or a folder of them.", exists=True)],
    host: Annotated[str, typer.Option(help="Address of the data listener.", envvar="TIDEGATE_HOST")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port of the data listener; 0 for any.", envvar="TIDEGATE_PORT", min=0, max=_LAST_PORT)
    ] = 8080,
    admin_host: Annotated[
        str, typer.Option(help="Address of the admin listener.", envvar="TIDEGATE_ADMIN_HOST")
    ] = "127.0.0.1",
    admin_port: Annotated[
        int,
        typer.Option(
            help="Port of the admin listener; 0 for any.", envvar="TIDEGATE_ADMIN_PORT", min=0, max=_LAST_PORT
        ),
    ] = 9000,
    admin_token_file: Annotated[
        Path | None,
        typer.Option(
            help="File that contains the admin token; or set TIDEGATE_ADMIN_TOKEN.",
            exists=True,
            envvar="TIDEGATE_ADMIN_TOKEN_FILE",
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            help="PEM certificate chain of the data listener.", exists=True, envvar="TIDEGATE_TLS_CERTIFICATE"
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="PEM private key of the data listener.", exists=True, envvar="TIDEGATE_TLS_KEY")
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            help="PEM authorities; clients of the data listener need a certificate from one.",
            exists=True,
            envvar="TIDEGATE_TLS_CLIENT_CA",
        ),
    ] = None,
    admin_tls_certificate: Annotated[
        Path | None,
        typer.Option(
            help="PEM certificate chain of the admin listener.", exists=True, envvar="TIDEGATE_ADMIN_TLS_CERTIFICATE"
        ),
    ] = None,
    admin_tls_key: Annotated[
        Path | None,
        typer.Option(help="PEM private key of the admin listener.", exists=True, envvar="TIDEGATE_ADMIN_TLS_KEY"),
    ] = None,
    admin_tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            help="PEM authorities; clients of the admin listener need a certificate from one.",
            exists=True,
            envvar="TIDEGATE_ADMIN_TLS_CLIENT_CA",
        ),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            help="Where state is saved: sqlite:///FILE, redis://HOST:6379/0 to share it between machines, "
            "or memory:// to save nothing.",
            envvar="TIDEGATE_STATE",
            show_default="~/.local/state/tidegate/state.sqlite",
        ),
    ] = None,
    alert_webhook: Annotated[
        str | None,
        typer.Option(
            help="URL to which alerts are posted, in Alertmanager's JSON.",
            envvar="TIDEGATE_ALERT_WEBHOOK",
            show_default="none",
        ),
    ] = None,
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(
            help="OTLP/HTTP collector for traces and metrics, such as http://localhost:4318.",
            envvar=["TIDEGATE_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
            show_default="none",
        ),
    ] = None,
    trace_ratio: Annotated[
        float,
        typer.Option(
            help="Share of requests to trace, among those without a traceparent.",
            envvar="TIDEGATE_TRACE_RATIO",
            min=0.0,
            max=1.0,
        ),
    ] = 0.01,
    access_log: Annotated[
        bool, typer.Option(help="Write one JSON line per request to standard output.", envvar="TIDEGATE_ACCESS_LOG")
    ] = True,
    log_level: Annotated[
        str, typer.Option(help="Log level: debug, info, warning or error.", envvar="TIDEGATE_LOG_LEVEL")
    ] = "info",
    drain_delay: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds between /ready turning 503 and the listener closing.", envvar="TIDEGATE_DRAIN_DELAY"
        ),
    ] = 0.0,
    drain_timeout: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds that open requests have to finish after that.", envvar="TIDEGATE_DRAIN_TIMEOUT"
        ),
    ] = 30.0,
    max_body: Annotated[
        int, typer.Option(min=1024, help="Largest request body in bytes.", envvar="TIDEGATE_MAX_BODY")
    ] = 32 * 1024 * 1024,
    max_event: Annotated[
        int,
        typer.Option(
            min=64 * 1024, help="Largest event in the stream of an engine, in bytes.", envvar="TIDEGATE_MAX_EVENT"
        ),
    ] = MAX_EVENT,
    max_connections: Annotated[
        int,
        typer.Option(min=1, help="Maximum number of client connections at once.", envvar="TIDEGATE_MAX_CONNECTIONS"),
    ] = 100_000,
    trusted_proxies: Annotated[
        str,
        typer.Option(
            help="Comma-separated addresses and networks whose X-Forwarded-* headers are passed on.",
            envvar="TIDEGATE_TRUSTED_PROXIES",
            show_default="none",
        ),
    ] = "",
    cors_origins: Annotated[
        str,
        typer.Option(
            help="Comma-separated origins whose web pages may send requests; * for all.",
            envvar="TIDEGATE_CORS_ORIGINS",
            show_default="none",
        ),
    ] = "",
    workers: Annotated[
        str,
        typer.Option(
            help="Number of worker processes, or auto for one per core; with any, `tidegate upgrade` works.",
            envvar="TIDEGATE_WORKERS",
            show_default="one process, without a supervisor",
        ),
    ] = "",
    dns_server: Annotated[
        str,
        typer.Option(
            help="Address of the name server to ask for backends under `dns` in the routes.",
            envvar="TIDEGATE_DNS_SERVER",
            show_default="those of /etc/resolv.conf",
        ),
    ] = "",
    kubernetes_api: Annotated[
        str | None,
        typer.Option(
            help="URL of the API server to ask for backends under `kubernetes` and `inference_pool` in the routes.",
            envvar="TIDEGATE_KUBERNETES_API",
            show_default="that of the cluster",
        ),
    ] = None,
    kubernetes_token_file: Annotated[
        Path | None,
        typer.Option(
            help="File that contains the token for the API server.",
            exists=True,
            envvar="TIDEGATE_KUBERNETES_TOKEN_FILE",
            show_default="that of the pod's service account",
        ),
    ] = None,
    kubernetes_ca_file: Annotated[
        Path | None,
        typer.Option(
            help="PEM authorities that sign the API server's certificate.",
            exists=True,
            envvar="TIDEGATE_KUBERNETES_CA_FILE",
            show_default="that of the pod's service account",
        ),
    ] = None,
    gateway_headers: Annotated[
        bool,
        typer.Option(
            help="Send x-gateway-* headers, which tell clients where their answers come from.",
            envvar="TIDEGATE_GATEWAY_HEADERS",
        ),
    ] = True,
) -> None:
    """Serve the models in ROUTES to OpenAI clients."""
    output = Output(_STANDARD_ERROR)
    # As in a file, a line end after it is none of the token's: secrets that are made with `echo` have one.
    token = None if admin_token_file else os.environ.get("TIDEGATE_ADMIN_TOKEN", "").strip()
    try:
        edge = Edge(networks(trusted_proxies), gateway_headers=gateway_headers, cors_origins=origins(cors_origins))
        tls = Tls(tls_certificate, tls_key, tls_client_ca)
        admin_tls = Tls(admin_tls_certificate, admin_tls_key, admin_tls_client_ca)
        count = _count(workers)
        name_server = parse_name_server(dns_server) if dns_server else None
        cluster = ClusterSettings(kubernetes_api, kubernetes_token_file, kubernetes_ca_file)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    settings = Settings(
        routes=routes,
        host=host,
        port=port,
        admin_host=admin_host,
        admin_port=admin_port,
        admin_token=token or None,
        admin_token_file=admin_token_file,
        tls=tls,
        admin_tls=admin_tls,
        access_log=access_log,
        state=state,
        alert_webhook=alert_webhook,
        otlp_endpoint=otlp_endpoint,
        trace_ratio=trace_ratio,
        drain=DrainTimes(drain_delay, drain_timeout),
        limits=Limits(body=max_body, connections=max_connections),
        max_event=max_event,
        edge=edge,
        dns_server=name_server,
        kubernetes=cluster,
    )
    try:
        if alert_webhook is not None:
            Webhook(alert_webhook)
        if otlp_endpoint is not None:
            check_endpoint(otlp_endpoint)
        require_token(admin_host, has_token=bool(token or admin_token_file))
        configure(log_level, output, os.getpid() if VARIABLE in os.environ else None)
    except (TokenRequired, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    status = _run(settings, count, output)
    output.close()
    os._exit(status)  # everything is closed; what is not, in time, must not hold the process


def _count(workers: str) -> int:
    """Return how many workers to run, 0 for none; raises ValueError."""
    if not workers:
        return 0
    if workers == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not workers.isdecimal() or not 1 <= int(workers) <= _MOST_WORKERS:
        raise ValueError(f"--workers is auto, or a number from 1 to {_MOST_WORKERS}")
    return int(workers)


def _run(settings: Settings, workers: int, output: Output) -> int:
    def started(addresses: Addresses) -> None:
        output.write(f"tidegate serves {addresses.data}/v1, admin on {addresses.admin}\n")
        systemd.notify("READY=1")
        if why := native.why_interpreted():
            words = "runs in pure Python: answers are the same, but a request costs about twice the CPU time"
            _log.info(words, extra={"reason": why})

    # Not closed: that would wait for threads, of which one may hang in a resolver or an exporter.
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        runner.run(_served(settings, workers, started))
    except RoutesError as error:
        output.write(f"{error}\n{error.summary}\n")
        return 1
    except (FilesError, StartError, StateError) as error:
        output.write(f"{error}\n")
        return 1
    except OSError as error:
        output.write(f"tidegate: {error.strerror or error}\n")
        return 1
    _log.info("stopped")
    return 0


async def _served(settings: Settings, workers: int, started: Callable[[Addresses], None]) -> None:
    if own := inherited(os.environ):
        await _work(settings, own)
    elif workers:
        await _supervise(settings, workers, started)
    else:
        await App(settings, load_routes(settings.routes, listeners=settings.listeners)).run(started)


async def _supervise(settings: Settings, workers: int, started: Callable[[Addresses], None]) -> None:
    from gateway.workers.machine import Machine  # noqa: PLC0415 - one process alone does not load what it never runs
    from gateway.workers.process import own_command  # noqa: PLC0415
    from gateway.workers.succession import succession  # noqa: PLC0415

    await Machine(settings, workers, own_command(), succession(os.environ)).run(started)


async def _work(settings: Settings, own: Inherited) -> None:
    """Run one worker: who asks it comes from the supervisor, which has the token and TLS of the admin listener."""
    from gateway.workers.worker import Worker  # noqa: PLC0415 - as above

    alone = replace(settings, admin_tls=Tls(), admin_token=None, admin_token_file=None)
    settings = replace(alone, state=own.state, table=own.table or None, shares_output=True)

    def load() -> RouteTable:
        return load_routes(settings.routes, listeners=settings.listeners)

    def make(routes: RouteTable, sockets: Sockets) -> App:
        return App(settings, routes, sockets=sockets)

    await Worker(own, make, load).run()
