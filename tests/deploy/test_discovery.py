"""What deploy/ lets the gateway read in a cluster is what discovery reads there."""

from pathlib import Path
from typing import Any

import yaml

from gateway.discovery.kubernetes.resources import pods_with, pool_named, slices_of

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
COLLECTIONS = (slices_of("vllm", "serving"), pool_named("llama", "serving"), pods_with("app=vllm", "serving"))


def manifest(file: str, kind: str) -> dict[str, Any]:
    return next(each for each in yaml.safe_load_all((KUBERNETES / file).read_text()) if each["kind"] == kind)


def test_the_role_is_for_what_is_read_and_no_more() -> None:
    rules = manifest("discovery/rbac.yaml", "Role")["rules"]
    assert {(rule["apiGroups"][0], rule["resources"][0]) for rule in rules} == {
        (c.group, c.plural) for c in COLLECTIONS
    }
    for rule in rules:
        assert len(rule["apiGroups"]) == len(rule["resources"]) == 1
        assert rule["verbs"] == ["get", "list", "watch"]


def test_it_is_bound_to_the_account_of_the_gateway() -> None:
    account = manifest("tidegate.yaml", "ServiceAccount")["metadata"]["name"]
    binding = manifest("discovery/rbac.yaml", "RoleBinding")
    assert [subject["name"] for subject in binding["subjects"]] == [account]
    assert binding["roleRef"]["name"] == manifest("discovery/rbac.yaml", "Role")["metadata"]["name"]
    assert manifest("tidegate.yaml", "Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == account


def test_no_token_is_mounted_that_is_not_needed() -> None:
    assert manifest("tidegate.yaml", "ServiceAccount")["automountServiceAccountToken"] is False
    assert manifest("tidegate.yaml", "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
