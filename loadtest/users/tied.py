"""`python -m loadtest.users.tied ARGS`: locust that ends when its standard input does.

As `gateway.processes.ends_with_parent`, whose thread gevent's patching does not bear.
"""

import os
import signal

import gevent
from gevent.socket import wait_read
from locust.main import main

_GRACE_SECONDS = 10.0


def _end_with_parent() -> None:
    wait_read(0)
    os.kill(os.getpid(), signal.SIGTERM)
    gevent.sleep(_GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    gevent.spawn(_end_with_parent)
    main()
