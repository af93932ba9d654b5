"""The Helm chart: what its values turn on, and that the parts of it fit one another."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.deploy.chart import ROOT, ROUTES, Object, container, kinds, needs_helm, only, options, render
from tests.e2e.fakes import backends, good
from tests.e2e.harness import gateway
from tests.rules.made import needs_promtool, promtool
from tests.waiting import DEADLINE, patient_client

pytestmark = needs_helm

KEDA = {
    "namespace": "serving",
    "labels": {"app": "vllm"},
    "alsoFrom": ["monitoring"],
    "scale": {"pool": "gpu", "kind": "keda", "target": "vllm", "min": 0, "max": 8, "fallback": 2},
}
HPA = {"namespace": "serving", "scale": {"pool": "gpu", "kind": "hpa", "target": "vllm", "min": 1, "max": 8}}
FLEET: dict[str, Any] = {"state": {"kind": "redis"}, "replicas": 3}


def selected(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


class TestTheGateway:
    @pytest.mark.parametrize("values", [{}, FLEET], ids=["one", "fleet"])
    def test_a_pod_has_no_privileges_and_cannot_write_to_its_image(self, values: dict[str, Any]) -> None:
        pod = only(render(**values), "Deployment")["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in pod["containers"]:
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }

    @pytest.mark.parametrize("drain", [{}, {"preStop": 20, "delay": 0, "timeout": 600, "spare": 30}])
    def test_the_grace_period_covers_hook_drain_and_last_save(self, drain: dict[str, int]) -> None:
        objects = render(drain=drain)
        hook = int(container(objects)["lifecycle"]["preStop"]["exec"]["command"][-1])
        needed = hook + int(options(objects)["drain-delay"]) + int(options(objects)["drain-timeout"])
        assert only(objects, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= needed + 5

    def test_one_replica_has_a_volume_and_nothing_that_forbids_its_eviction(self) -> None:
        objects = render()
        assert only(objects, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
        claim = only(objects, "PersistentVolumeClaim")["metadata"]["name"]
        volumes = only(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]
        assert [each["persistentVolumeClaim"]["claimName"] for each in volumes if "persistentVolumeClaim" in each] == [
            claim
        ]
        assert not kinds(objects) & {"PodDisruptionBudget", "HorizontalPodAutoscaler"}

    def test_several_share_redis_and_one_at_a_time_is_replaced_or_evicted(self) -> None:
        objects = render(**FLEET)
        deployment = only(objects, "Deployment")
        assert deployment["spec"]["replicas"] == 3
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        assert "state" not in options(objects)
        [state] = container(objects)["env"]
        assert state["name"] == "TIDEGATE_STATE"
        assert state["valueFrom"]["secretKeyRef"]["name"] == "tidegate-state"
        budget = only(objects, "PodDisruptionBudget")["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == deployment["spec"]["selector"]
        assert "PersistentVolumeClaim" not in kinds(objects)

    def test_an_autoscaler_alone_says_how_many_there_are(self) -> None:
        objects = render(state={"kind": "redis"}, autoscaling={"enabled": True, "min": 3, "max": 9})
        assert "replicas" not in only(objects, "Deployment")["spec"]
        scaler = only(objects, "HorizontalPodAutoscaler")["spec"]
        assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 9)
        assert scaler["scaleTargetRef"]["name"] == only(objects, "Deployment")["metadata"]["name"]

    def test_several_without_a_store_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"set state\.kind to redis"):
            render(replicas=2)

    def test_routes_are_asked_for(self) -> None:
        with pytest.raises(ValueError, match=r"--set-file routes=routes\.yaml"):
            render(routes=None)

    def test_a_value_that_the_chart_does_not_know_is_refused(self) -> None:
        with pytest.raises(ValueError, match="replica"):
            render(replica=2)

    @pytest.mark.parametrize("given", [ROUTES, yaml.safe_dump(ROUTES)], ids=["map", "text"])
    def test_routes_are_a_map_or_text(self, given: Any) -> None:
        [config] = [each for each in render(routes=given) if each["kind"] == "ConfigMap"]
        assert yaml.safe_load(config["data"]["routes.yaml"]) == ROUTES

    def test_services_find_the_pods_and_clients_do_not_find_the_admin_listener(self) -> None:
        objects = render()
        labels = only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
        services = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "Service"}
        assert all(selected(spec["selector"], labels) for spec in services.values())
        assert {name: [port["targetPort"] for port in spec["ports"]] for name, spec in services.items()} == {
            "tidegate": ["http"],
            "tidegate-admin": ["admin"],
            "tidegate-pods": ["admin"],
        }

    def test_a_token_of_the_cluster_is_mounted_only_for_discovery(self) -> None:
        def mounted(objects: list[Object]) -> bool:
            found = only(objects, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"]
            assert isinstance(found, bool)
            return found

        found = render(discovery={"namespaces": ["a", "b"]})
        assert (mounted(render()), mounted(found)) == (False, True)
        roles = [each for each in found if each["kind"] == "Role"]
        assert [role["metadata"]["namespace"] for role in roles] == ["a", "b"]
        assert {verb for role in roles for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
        assert "ClusterRole" not in kinds(found)


class TestEngines:
    def test_only_the_gateway_and_those_named_reach_them(self) -> None:
        objects = render(engines=[KEDA])
        [policy] = [
            each for each in objects if each["metadata"].get("namespace") == "serving" and "Network" in each["kind"]
        ]
        [rule] = policy["spec"]["ingress"]
        gateway, monitoring = rule["from"]
        labels = only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
        assert policy["spec"]["podSelector"] == {"matchLabels": {"app": "vllm"}}
        assert rule["ports"] == [{"port": 8000}]
        assert selected(gateway["podSelector"]["matchLabels"], labels)
        assert gateway["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "tidegate"}
        assert monitoring == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}

    def test_keda_asks_for_the_want_and_keeps_what_is_there_when_it_is_unknown(self) -> None:
        objects = render(engines=[KEDA])
        scaled = only(objects, "ScaledObject")
        [trigger] = scaled["spec"]["triggers"]
        service = next(each for each in objects if each["metadata"]["name"] == "tidegate-admin")
        port = service["spec"]["ports"][0]["port"]
        assert trigger["metadata"] == {
            "url": f"http://tidegate-admin.tidegate.svc:{port}/admin/capacity/gpu/keda",
            "valueLocation": "value",
            "targetValue": "1",
            "aggregateFromKubeServiceEndpoints": "true",
            "aggregationType": "max",
            "authMode": "bearer",
        }
        # KEDA asks pods at the port of the URL, so the Service must not map it to another.
        assert {"name": service["spec"]["ports"][0]["targetPort"], "containerPort": port} in container(objects)["ports"]
        authentication = only(objects, "TriggerAuthentication")["metadata"]
        assert trigger["authenticationRef"]["name"] == authentication["name"]
        assert authentication["namespace"] == scaled["metadata"]["namespace"]
        assert scaled["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"
        assert scaled["spec"]["fallback"]["replicas"] == 2

    @pytest.mark.anyio
    async def test_a_gateway_answers_what_keda_asks(self, tmp_path: Path) -> None:
        [trigger] = only(render(engines=[KEDA]), "ScaledObject")["spec"]["triggers"]
        path = urlsplit(trigger["metadata"]["url"]).path
        async with backends(good) as (engine,):
            pool = {"backends": [engine.url], "capacity": {"min": 1, "max": 8}}
            routes = {"pools": {"gpu": pool}, "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}}}}
            async with (
                gateway(tmp_path, json.dumps(routes)) as running,
                patient_client(base_url=running.admin) as client,
            ):
                async with asyncio.timeout(DEADLINE):
                    # Until it has seen its engines, it does not know what it wants.
                    while (answer := await client.get(path)).status_code == 503:
                        await asyncio.sleep(0.05)
                assert answer.status_code == 200
                assert 1 <= answer.json()[trigger["metadata"]["valueLocation"]] <= 8
                assert (await client.get(path.replace("gpu", "other"))).status_code == 404

    def test_keda_reaches_the_admin_listener_only_where_it_scales_engines(self) -> None:
        def admitted(objects: list[Object]) -> set[str]:
            [own] = [
                each for each in objects if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "tidegate"
            ]
            [rule] = [each for each in own["spec"]["ingress"] if each["ports"] == [{"port": "admin"}]]
            return {next(iter(each["namespaceSelector"]["matchLabels"].values())) for each in rule["from"]}

        assert admitted(render()) == admitted(render(engines=[HPA])) == {"monitoring"}
        assert admitted(render(engines=[KEDA])) == {"monitoring", "keda"}

    @pytest.mark.parametrize(("engine", "kind"), [(KEDA, "ScaledObject"), (HPA, "HorizontalPodAutoscaler")])
    @pytest.mark.parametrize("text", [False, True], ids=["map", "text"])
    def test_the_dead_band_is_the_one_that_the_gateway_reckons_with(
        self, engine: dict[str, Any], kind: str, text: bool
    ) -> None:
        def tolerances(capacity: Any) -> set[Any]:
            routes = {**ROUTES, "pools": {"gpu": {"backends": ["http://vllm:8000"], **capacity}}}
            given = yaml.safe_dump(routes) if text else routes
            spec = only(render(engines=[engine], routes=given), kind)["spec"]
            behavior = spec.get("behavior") or spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
            return {behavior[direction].get("tolerance") for direction in ("scaleUp", "scaleDown")}

        assert tolerances({"capacity": {"hpa_tolerance": 0}}) == {0}
        assert tolerances({"capacity": {"hpa_tolerance": 0.05}}) == {0.05}
        # 10 % is what autoscalers have without it, on clusters too that do not know the field.
        assert tolerances({"capacity": {"hpa_tolerance": 0.1}}) == {None}
        assert tolerances({"capacity": {"max": 3}}) == tolerances({}) == {None}

    def test_an_autoscaler_reads_the_metric_of_the_want(self) -> None:
        [metric] = only(render(engines=[HPA]), "HorizontalPodAutoscaler")["spec"]["metrics"]
        assert metric["external"]["metric"] == {
            "name": "tidegate_capacity_wanted_replicas",
            "selector": {"matchLabels": {"pool": "gpu"}},
        }
        assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}


class TestMonitoring:
    def test_prometheus_finds_the_admin_service_and_no_other(self) -> None:
        objects = render(monitoring={"serviceMonitor": {"enabled": True}})
        monitor = only(objects, "ServiceMonitor")["spec"]
        found = [
            each["metadata"]["name"]
            for each in objects
            if each["kind"] == "Service" and selected(monitor["selector"]["matchLabels"], each["metadata"]["labels"])
        ]
        assert found == ["tidegate-admin"]
        [endpoint] = monitor["endpoints"]
        assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")
        assert endpoint["authorization"]["credentials"] == {"name": "tidegate-admin", "key": "token"}

    @needs_promtool
    def test_rules_and_dashboard_are_what_tidegate_wrote(self, tmp_path: Path) -> None:
        (tmp_path / "routes.yaml").write_text(yaml.safe_dump(ROUTES))

        def written(*options: str) -> str:
            command = [sys.executable, "-m", "gateway.cli", "rules", str(tmp_path / "routes.yaml"), *options]
            return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

        rules, dashboard = written(), written("--format", "grafana")
        objects = render(monitoring={"rules": rules, "dashboard": dashboard})
        spec = only(objects, "PrometheusRule")["spec"]
        assert spec == yaml.safe_load(rules)
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))
        assert promtool(tmp_path, "check", "rules", "rules.yaml").returncode == 0
        [board] = [each for each in objects if each["metadata"]["name"] == "tidegate-dashboard"]
        assert yaml.safe_load(board["data"]["tidegate.json"]) == yaml.safe_load(dashboard)
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
