"""What one process alone does not load."""

import subprocess
import sys


def test_the_supervisor_is_loaded_only_where_there_are_workers() -> None:
    code = "import sys, gateway.cli.serve; print('gateway.workers.machine' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
