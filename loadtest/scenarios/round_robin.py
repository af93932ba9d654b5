"""`python -m loadtest.scenarios.round_robin ROUTES`: Tidegate, but each request goes to the next engine in turn."""

import sys
from pathlib import Path

import uvloop

from gateway.app import App
from gateway.config.load import load_routes
from gateway.listeners import Addresses
from gateway.settings import Settings
from loadtest.routing.brownout import round_robin


def _started(addresses: Addresses) -> None:
    print(f"tidegate serves {addresses.data}/v1, admin on {addresses.admin}", flush=True)


if __name__ == "__main__":
    routes = Path(sys.argv[1])
    settings = Settings(routes=routes, port=0, admin_port=0, access_log=False)
    uvloop.run(App(settings, load_routes(routes), choose=round_robin()).run(_started))
