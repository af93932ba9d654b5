"""Hold the files in this folder, and the Dockerfile, against their schemas, without a network (`make check`)."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from compose_spec import PyCompose

DEPLOY = Path(__file__).parent
BIN = Path(sys.executable).parent


def main() -> int:
    """Return 0 when every file is valid, else 1 with what is wrong on standard error."""
    manifests = sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
    commands: list[list[Path | str]] = [
        [BIN / "hadolint", DEPLOY.parent / "Dockerfile"],
        [BIN / "kubernetes-validate", "--strict", "--quiet", *manifests],
    ]
    wrong = sum(subprocess.run(command, check=False).returncode != 0 for command in commands)
    return 1 if wrong + _compose() + _unit() + _prometheus() else 0


def _compose() -> int:
    # Through JSON, since the parser of the schema does not merge YAML's `<<`.
    text = json.dumps(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))
    try:
        PyCompose.from_json(text)
    except ValueError as error:
        print(f"deploy/compose.yaml: {error}", file=sys.stderr)
        return 1
    return 0


def _unit() -> int:
    if shutil.which("systemd-analyze") is None:
        print("systemd-analyze is not on this machine: the systemd unit is not checked")
        return 0
    units = sorted((DEPLOY / "systemd").iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    # What it runs need not be installed on the machine that checks it.
    said = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    print("\n".join(said), end="\n" if said else "", file=sys.stderr)
    return 1 if said else 0


def _prometheus() -> int:
    if shutil.which("promtool") is None:
        print("promtool is not on this machine: deploy/prometheus.yml is not checked")
        return 0
    # The rules that it names are generated on the spot; tests/deploy checks both together.
    command: list[Path | str] = ["promtool", "check", "config", "--syntax-only", DEPLOY / "prometheus.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stderr if done.returncode else "", end="", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
