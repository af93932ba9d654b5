"""`python -m loadtest.upgrades`: fails when a gateway loses a request while it is upgraded again and again.

wrk sends requests on connections that are kept and on one for each; upgrades come as soon as the workers of the last
one have left. With `--kill` a worker is killed each five seconds instead, which may cost what was open in it. The
counts at /metrics must never fall, and no connect may fail. With `--against` an earlier commit is ended by SIGTERM and
started again instead, under the same load, and it fails unless that loses some.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from loadtest.bench.against import unpack
from loadtest.upgrades.disturbed import CONNECTIONS, Disturbed, kills, restarts, upgrades
from loadtest.upgrades.gateway import OWN, Gateway, engine

PAUSE = 5.0


def main() -> int:
    """Return 1 when anything was lost, or with `--against` when nothing was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--drain", type=float, default=20.0, help="seconds of --drain-timeout")
    parser.add_argument("--seconds", type=int, default=20, help="how long wrk runs before it takes other connections")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--kill", action="store_true", help="kill a worker each five seconds; upgrade never")
    ways.add_argument("--against", metavar="COMMIT", help="restart this commit, from before there were upgrades")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, engine() as backend:
        folder, program = Path(name), list(OWN)
        options: dict[str, object] = {"drain-timeout": asked.drain}
        if asked.against:
            checkout = unpack(asked.against, folder / "then")
            checkout.compile()
            checkout.require_own_code()
            program = checkout.program()
        else:
            options["workers"] = asked.workers
        gateway = Gateway(folder, backend, options, program)
        way = restarts(gateway, PAUSE) if asked.against else kills(gateway, PAUSE) if asked.kill else upgrades(gateway)
        played = Disturbed(gateway, folder, way, scraped=not asked.against, seconds=asked.seconds)
        try:
            gateway.until_serving()
            played.play(lambda so_far: so_far.total.requests >= asked.requests)
        finally:
            gateway.stop()
    if asked.against:
        return _judged_as_before(played)
    print(f"{played.scrapes} scrapes; counts that fell: {played.counts.falls or 'none'}")
    may_lose = CONNECTIONS * played.done.get("kills", 0)
    is_bad = played.total.bad > 0 and not asked.kill
    failed = played.total.lost > may_lose or played.total.refused > 0 or is_bad or bool(played.counts.falls)
    return int(failed or _broke(played))


def _judged_as_before(played: Disturbed) -> int:
    """Return 0 when restarts cost requests, as they did before there were upgrades."""
    costs = played.total.lost + played.total.refused + played.total.bad
    print(f"restarts cost {costs} requests or connects" if costs else "restarts cost nothing, which they should")
    return int(not costs or _broke(played))


def _broke(played: Disturbed) -> bool:
    for error in played.errors:
        print(error)
    return bool(played.errors)


if __name__ == "__main__":
    sys.exit(main())
