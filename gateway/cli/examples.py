"""Examples of the help of each command, by its name with that of its group."""

from typing import Any, Final

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "": ("tidegate demo", "tidegate check routes.yaml && tidegate serve routes.yaml"),
    "demo": ("tidegate demo", "tidegate demo --quiet --port 8080 --admin-port 9000"),
    "serve": (
        "tidegate serve routes.yaml",
        "TIDEGATE_PORT=80 tidegate serve routes/ --workers auto --state redis://redis:6379/0",
    ),
    "check": ("tidegate check routes.yaml", "tidegate check --schema > routes.schema.json"),
    "doctor": ("tidegate doctor routes.yaml", "tidegate doctor routes/ --json | jq '.[].findings'"),
    "explain": (
        "tidegate explain --model my-model",
        "tidegate explain --model my-model --prompt-tokens 20000 --class batch",
    ),
    "status": ("tidegate status --watch", "tidegate status --json | jq '.problems'"),
    "top": ("tidegate top", "tidegate top --sort load --once --json | jq '.backends[0]'"),
    "costs": ("tidegate costs --tenant acme", "tidegate costs --idle distributed --csv > costs.csv"),
    "slo": ("tidegate slo", "tidegate slo my-model --watch", "tidegate slo suggest my-model"),
    "slo show": ("tidegate slo my-model", "tidegate slo --watch --interval 10"),
    "slo suggest": ("tidegate slo suggest my-model", "tidegate slo suggest my-model --target 95 --headroom 50"),
    "canary": ("tidegate canary status my-model --watch", "tidegate canary rollback my-model --reason 'wrong prompts'"),
    "canary status": ("tidegate canary status my-model", "tidegate canary status my-model --watch"),
    "canary report": ("tidegate canary report my-model", "tidegate canary report my-model --json | jq '.slis'"),
    "canary start": (
        "tidegate canary start my-model",
        "tidegate canary start my-model --despite-budget --reason 'a fix'",
    ),
    "canary pause": ("tidegate canary pause my-model --reason 'until Monday'",),
    "canary resume": ("tidegate canary resume my-model",),
    "canary promote": ("tidegate canary promote my-model --reason 'tested by hand'",),
    "canary rollback": ("tidegate canary rollback my-model --reason 'wrong prompts'",),
    "gate": ("tidegate gate my-model && ./deploy.sh", "tidegate gate my-model --freeze-below 20 --json"),
    "capacity": ("tidegate capacity", "tidegate capacity approve gpu --reason 'launch on Friday'"),
    "capacity approve": (
        "tidegate capacity approve gpu",
        "tidegate capacity approve gpu --replicas 8 --reason 'launch on Friday'",
    ),
    "capacity reject": ("tidegate capacity reject gpu --reason 'no budget left'",),
    "drain": (
        "tidegate drain gpu/vllm-0:8000 --reason 'new driver'",
        "tidegate drain gpu/vllm-0:8000 --wait --timeout 5m && systemctl stop vllm",
    ),
    "undrain": ("tidegate undrain gpu/vllm-0:8000",),
    "deploy": ("tidegate deploy my-model v2 --id run-7",),
    "stage": (
        "tidegate stage run-7 image_pull running",
        "tidegate stage run-7 image_pull failed --reason 'no such image'",
    ),
    "deployments": ("tidegate deployments", "tidegate deployments --json | jq '.[0]'"),
    "audit": ("tidegate audit", "tidegate audit --limit 100 --json"),
    "scaler": ("tidegate scaler --listen 0.0.0.0:9010 --admin https://tidegate:9000",),
    "upgrade": ("pip install --upgrade tidegate && tidegate upgrade",),
    "rules": (
        "tidegate rules routes.yaml > rules.yaml && promtool check rules rules.yaml",
        "tidegate rules routes.yaml --format grafana --out dashboard.json",
    ),
    "sim": ("tidegate sim --port 8000", "tidegate sim --port 8001 --profile cpu --model my-model --time-scale 0.1"),
    "completion": (
        "source <(tidegate completion bash)",
        "tidegate completion fish > ~/.config/fish/completions/tidegate.fish",
    ),
}


def add_examples(command: Any, name: str) -> None:
    """Let the help of a command end with its examples."""
    lines = "\n".join(f"  {each}" for each in EXAMPLES.get(name, ()))
    # \b: lines that are not filled up to the width
    command.help = f"{command.help}\n\n\b\nExamples:\n{lines}"
