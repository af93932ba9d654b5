"""Hold the files in this folder, and the Dockerfile, against their schemas, without a network (`make check`)."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from charts import CHART, KUBERNETES, ROUTES, RenderError, can_render, lint, manifests, rendered
from compose_spec import PyCompose
from jsonschema import Draft7Validator

DEPLOY = Path(__file__).parent
BIN = Path(sys.executable).parent
CUSTOM = json.loads((DEPLOY / "custom-resources.json").read_text())
EVERYTHING: dict[str, Any] = {
    "image": {"pullSecrets": ["registry"]},
    "routes": {
        "models": {"m": {"backends": ["http://vllm.serving.svc:8000"]}},
        "pools": {"gpu": {"capacity": {"hpa_tolerance": 0}}, "cpu": {"capacity": {"hpa_tolerance": 0.05}}},
    },
    "env": [{"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "vllm", "key": "key"}}}],
    "state": {"kind": "redis"},
    "replicas": 3,
    "workers": 2,
    "extraArgs": ["--no-access-log"],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "gateway", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "service": {"type": "LoadBalancer", "port": 80, "annotations": {"example.com/internal": "true"}},
    "autoscaling": {"enabled": True},
    "discovery": {"namespaces": ["serving", "batch"]},
    "networkPolicy": {"clients": ["chat"], "admin": ["monitoring"]},
    "engines": [
        {
            "namespace": "serving",
            "labels": {"app": "vllm"},
            "alsoFrom": ["monitoring"],
            "waits": True,
            "scale": {"pool": "gpu", "kind": "keda", "target": "vllm", "min": 0, "max": 8, "fallback": 2},
        },
        {"namespace": "serving", "scale": {"pool": "cpu", "kind": "hpa", "target": "vllm-cpu", "min": 1, "max": 4}},
        {"namespace": "batch", "labels": {"app": "embeddings"}, "port": 9000},
    ],
    "monitoring": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "rules": "groups:\n  - name: g\n    interval: 30s\n    rules:\n      - {record: r, expr: vector(1)}\n",
        "ruleLabels": {"role": "alert-rules"},
        "dashboard": '{\n  "title": "Tidegate"\n}\n',
    },
}
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {"routes": ROUTES},
    "everything": EVERYTHING,
    "nothing saved": {
        "routes": ROUTES,
        "state": {"kind": "memory"},
        "networkPolicy": {"enabled": False},
    },
}
REFUSED: dict[str, dict[str, Any]] = {
    "no routes": {"routes": None},
    "several replicas with one volume": {"replicas": 2},
    "an autoscaler with one volume": {"autoscaling": {"enabled": True}},
    "a value that does not exist": {"replica": 2},
    "an autoscaler that has no zero": {
        "engines": [{"namespace": "s", "scale": {"pool": "p", "kind": "hpa", "target": "d", "min": 0, "max": 2}}]
    },
    "routes without models": {"routes": {"pools": {}}},
    "rules that are none": {"monitoring": {"rules": "nothing"}},
}


def main() -> int:
    """Return 0 when every file is valid, else 1 with what is wrong on standard error."""
    wrong = _hadolint() + _compose() + _unit() + _prometheus() + _alertmanager()
    examples = [path for path in (DEPLOY / "ci").glob("*.yaml") if path.read_text().count("apiVersion:")]
    for path in sorted([*KUBERNETES.rglob("*.yaml"), *examples]):
        wrong += _objects(str(path.relative_to(DEPLOY)), path.read_text())
    return 1 if wrong + _chart() else 0


def _hadolint() -> int:
    return subprocess.run([BIN / "hadolint", DEPLOY.parent / "Dockerfile"], check=False).returncode


def _objects(origin: str, text: str) -> int:
    """Return 1 when one of the objects in a manifest is not valid: Kubernetes' own, and those of other projects."""
    plain, problems = [], []
    for each in yaml.safe_load_all(text):
        spec = each and CUSTOM["kinds"].get(f"{each['apiVersion']} {each['kind']}")
        if spec:
            problems += [f"{origin}: {each['kind']} {problem}" for problem in _custom(each, spec)]
        elif each:
            plain.append(each)
    print("\n".join(problems), end="\n" if problems else "", file=sys.stderr)
    wrong = bool(problems)
    if plain:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / origin.replace("/", "_")
            file.write_text(yaml.safe_dump_all(plain))
            command = [BIN / "kubernetes-validate", "--strict", "--quiet", file]
            wrong |= subprocess.run(command, check=False).returncode != 0
    return int(wrong)


def _custom(found: dict[str, Any], spec: dict[str, Any]) -> Iterator[str]:
    definitions = CUSTOM["definitions"]
    schema = {"definitions": definitions, "allOf": [definitions["resource"]], "properties": {"spec": spec}}
    for error in Draft7Validator(schema).iter_errors(found):
        yield f"{error.json_path}: {error.message}"


def _chart() -> int:
    """Return how many faults the chart has: its schema, what it renders, and the manifests made from it."""
    schema = Draft7Validator(json.loads((CHART / "values.schema.json").read_text()))
    schema.check_schema(schema.schema)
    own = yaml.safe_load((CHART / "values.yaml").read_text())
    wrong = [f"values.yaml: {error.json_path}: {error.message}" for error in schema.iter_errors(own)]
    if can_render():
        wrong += _rendering()
    else:
        print("neither helm nor its library is on this machine: the chart is not rendered")
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return len(wrong)


def _rendering() -> list[str]:
    wrong = lint()
    wrong += [
        f"the chart takes these values: {name}" for name in REFUSED if _renders({"routes": ROUTES} | REFUSED[name])
    ]
    for name, values in VARIANTS.items():
        if _objects(f"chart, {name}", "\n---\n".join(_parts(values))):
            wrong.append(f"the chart does not render valid objects: {name}")
    for path, text in manifests().items():
        if (KUBERNETES / path).read_text() != text:
            wrong.append(f"kubernetes/{path} is not what the chart says: run make manifests")
    return wrong


def _parts(values: dict[str, Any]) -> list[str]:
    return [text for name, text in rendered(values).items() if name != "NOTES"]


def _renders(values: dict[str, Any]) -> bool:
    try:
        rendered(values)
    except RenderError:
        return False
    return True


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
        print("systemd-analyze is not on this machine: the systemd units are not checked")
        return 0
    # Exposure from 0 to 10 by systemd's own list of what a service could do to its machine; below 2 is its best word.
    command: list[Path | str] = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager"]
    rated = subprocess.run([*command, DEPLOY / "systemd/tidegate.service"], capture_output=True, text=True, check=False)
    print(rated.stdout if rated.returncode else "", end="", file=sys.stderr)
    units = sorted((DEPLOY / "systemd").iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    # What it runs need not be installed on the machine that checks it.
    said = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    print("\n".join(said), end="\n" if said else "", file=sys.stderr)
    return 1 if said or rated.returncode else 0


def _alertmanager() -> int:
    if shutil.which("amtool") is None:
        print("amtool is not on this machine: deploy/alertmanager.yml is not checked")
        return 0
    command: list[Path | str] = ["amtool", "check-config", DEPLOY / "alertmanager.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stderr if done.returncode else "", end="", file=sys.stderr)
    return done.returncode


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
