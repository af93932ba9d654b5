"""Render the Helm chart, and write the plain manifests from it (`make manifests`), so that the two say the same.

Helm's own engine renders: the library from PyPI where there is one for this machine, else a `helm` on the PATH.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

try:
    import helm_python
except ImportError:
    helm_python = None

CHART = Path(__file__).parent / "helm" / "tidegate"
KUBERNETES = Path(__file__).parent / "kubernetes"
NAME = NAMESPACE = "tidegate"
ANY = "any"
"""The namespace of what is applied to whichever `kubectl --namespace` names."""
MADE = "# Made from the chart deploy/helm/tidegate by `make manifests`: change that, not this.\n"


ROUTES = """\
models:
  my-model:
    backends: [http://vllm.serving.svc:8000]
"""
"""Those of the plain manifests, for people to replace."""


class Plain(NamedTuple):
    """One plain manifest: the values and templates that it is made from, and what stands above it."""

    about: str
    values: dict[str, Any]
    templates: tuple[str, ...]


GATEWAY = ("routes", "serviceaccount", "pvc", "deployment", "services", "networkpolicy", "pdb", "hpa")
ENGINES = {"namespace": "serving", "labels": {"app": "vllm"}, "port": 8000, "alsoFrom": ["monitoring"], "waits": True}
SCALE = {"pool": "gpu", "kind": "keda", "target": "vllm", "min": 1, "max": 8, "fallback": 2}
PLAIN = {
    "tidegate.yaml": Plain(
        """\
# The gateway as one replica with a volume for its state:
#
#     kubectl create namespace tidegate
#     kubectl --namespace tidegate create secret generic tidegate-admin --from-literal=token="$(openssl rand -hex 24)"
#     kubectl --namespace tidegate apply -f deploy/kubernetes/
#
# Replace the image and the URLs in the ConfigMap. A changed ConfigMap is picked up without a restart. To see the
# status of the gateway:
#
#     kubectl --namespace tidegate exec deploy/tidegate -- \\
#       sh -c 'TIDEGATE_ADMIN_TOKEN=$(cat /etc/tidegate/admin/token) tidegate status'
""",
        {},
        GATEWAY,
    ),
    "fleet/tidegate.yaml": Plain(
        """\
# The gateway as two to eight replicas, which share their state in a Redis or Valkey server (docs/fleet.md). Instead of
# ../tidegate.yaml, with the URL of that server in a Secret:
#
#     kubectl --namespace tidegate create secret generic tidegate-state --from-literal=url=redis://redis.tidegate.svc:6379/0
#     kubectl --namespace tidegate apply -f deploy/kubernetes/fleet/
""",
        {"state": {"kind": "redis"}, "autoscaling": {"enabled": True}},
        GATEWAY,
    ),
    "discovery/rbac.yaml": Plain(
        """\
# Lets the gateway find its backends in a namespace. Apply it to each namespace that has engines, here to `serving`:
#
#     kubectl --namespace serving apply -f deploy/kubernetes/discovery/
#
# and set automountServiceAccountToken to true in ../tidegate.yaml.
""",
        {"discovery": {"namespaces": [ANY]}},
        ("discovery",),
    ),
    "engines/keda.yaml": Plain(
        """\
# Engines that KEDA scales to the number that the gateway wants, and that only the gateway can reach (docs/deploy.md).
# Here they are the Deployment `vllm` in the namespace `serving`, in the pool `gpu` of the routes:
#
#     kubectl --namespace serving create secret generic tidegate-admin --from-literal=token="$TOKEN"
#     kubectl apply -f deploy/kubernetes/engines/
#
# with the token of the admin listener. Admit the namespaces of KEDA and of the engines to that listener in the
# NetworkPolicy of ../tidegate.yaml.
""",
        {"engines": [{**ENGINES, "scale": SCALE}]},
        ("engines",),
    ),
    "monitoring/servicemonitor.yaml": Plain(
        """\
# Prometheus' operator reads the gateway's metrics. Alerts and dashboard follow from your routes (docs/deploy.md):
#
#     kubectl --namespace tidegate apply -f deploy/kubernetes/monitoring/
#     tidegate rules routes.yaml --format prometheusrule | kubectl --namespace tidegate apply -f -
""",
        {"monitoring": {"serviceMonitor": {"enabled": True}}},
        ("monitoring",),
    ),
}


class RenderError(Exception):
    """The chart refuses these values, or cannot be rendered."""


def can_render() -> bool:
    """Whether Helm's engine is on this machine."""
    return helm_python is not None or shutil.which("helm") is not None


def rendered(values: dict[str, Any]) -> dict[str, str]:
    """Return what each template gives, by its name, with the chart's own values below these."""
    return _by_library(values) if helm_python is not None else _by_program(values)


def lint() -> list[str]:
    """Return what Helm has to say against the chart."""
    if helm_python is not None:
        found = helm_python.lint(CHART, {"routes": ROUTES}, strict=True)
        return [f"{each['path']}: {each['error']}" for each in found["messages"] if each["severity"] >= 2]
    done = _helm("lint", "--strict", CHART, values={"routes": ROUTES})
    return [done.stdout + done.stderr] if done.returncode else []


def manifests() -> dict[str, str]:
    """Return the plain manifests, by their path below deploy/kubernetes/."""
    found = {}
    for path, (about, values, templates) in PLAIN.items():
        given = rendered({"routes": ROUTES, **values})
        parts = [given[name].strip().removeprefix("---\n") for name in templates if given.get(name, "").strip()]
        text = about + "#\n" + MADE + "\n" + "\n---\n".join(parts) + "\n"
        found[path] = text.replace(f"  namespace: {ANY}\n", "")
    return found


def _by_library(values: dict[str, Any]) -> dict[str, str]:
    try:
        with helm_python.Chart.load(CHART) as chart:
            chart.validate_schema(values)
            found = chart.render(values, name=NAME, namespace=NAMESPACE)
    except helm_python.HelmError as error:
        raise RenderError(str(error)) from None
    return {Path(path).stem: text for path, text in found.items()}


def _by_program(values: dict[str, Any]) -> dict[str, str]:
    done = _helm("template", NAME, CHART, "--namespace", NAMESPACE, values=values)
    if done.returncode:
        raise RenderError(done.stderr)
    found: dict[str, str] = {}
    # Helm names the template above each document that it prints.
    for part in done.stdout.split("---\n# Source: ")[1:]:
        path, _, text = part.partition("\n")
        name = Path(path).stem
        found[name] = f"{found[name]}---\n{text}" if name in found else text
    return found


def _helm(*arguments: str | Path, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        command = ["helm", *arguments, "--values", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def main() -> int:
    """Write the plain manifests, or the rendering with the values on standard input (`-`)."""
    try:
        if sys.argv[1:] == ["-"]:
            print(json.dumps(rendered(json.load(sys.stdin))))
            return 0
        for path, text in manifests().items():
            (KUBERNETES / path).parent.mkdir(exist_ok=True)
            (KUBERNETES / path).write_text(text)
    except RenderError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
