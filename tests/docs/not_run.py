"""The commands of README.md and docs/ that no test runs as they are written, each with the reason."""

import re
import shutil
from collections.abc import Mapping
from typing import Final

NOT_RUN: Final[Mapping[str, str]] = {
    r"docker .*": "needs Docker; tests/deploy runs what the images start",
    r"kubectl .*": "needs a cluster; `make check` holds the manifests against their schemas",
    r"helm .*": "needs a cluster; tests/deploy renders the chart where Helm is installed",
    r"systemctl .*": "needs root and systemd; `make check` verifies the units, tests/e2e/test_systemd.py uses them",
    r"install (-D )?--mode .*": "writes to /etc as root",
    r"(python3 -m venv )?(~|/opt)/tidegate.*": "installs from PyPI; tests/house/test_install.py does so elsewhere",
    r"\. \.venv/bin/activate": "is about the shell of a person; tests run in that environment already",
    r"locust .*": "a load without end, or of minutes; tests/e2e/test_locust.py runs shorter ones",
    r"python -m loadtest\..*": "takes minutes of a core; tests/loadtest runs its parts",
    r"tidegate scaler .*": "needs grpcio; tests/scaler runs it where that is installed",
    r"promtool test rules .*": "takes a minute or more; tests/rules does so for single alerts",
    r"(export TIDEGATE_REAL|python3 -m venv \$TIDEGATE_REAL|\$TIDEGATE_REAL/).*": "downloads gigabytes: a real engine",
}
"""By a pattern of the whole command."""


def why_not(text: str) -> str:
    """Return why a command is not run here, "" where it is."""
    if text.startswith("promtool ") and shutil.which("promtool") is None:
        return "promtool is not installed; .ci/run installs it"
    return next((reason for pattern, reason in NOT_RUN.items() if re.fullmatch(pattern, text)), "")
