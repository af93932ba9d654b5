"""`python -m gateway.processes.ends_with_parent MODULE ARGS`: run a module that ends when its standard input does.

The parent holds the other end of that pipe and never writes to it, so it closes however the parent ends, by SIGKILL
too, on every POSIX system.
"""

import os
import runpy
import signal
import sys
import threading
import time

_GRACE_SECONDS = 5.0


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
