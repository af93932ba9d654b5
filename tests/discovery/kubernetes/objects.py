"""Objects of the Kubernetes API as an API server of version 1.33 writes them, with what discovery does not read."""

from typing import Any

Json = dict[str, Any]
CREATED = "2026-11-20T08:58:24Z"


def uid(name: str) -> str:
    """Return a uid that goes with a name."""
    return f"4d8cffb5-5c4c-4604-9395-{sum(ord(char) * 31**i for i, char in enumerate(name)) % 16**12:012x}"


def endpoint(
    pod: str | None,
    address: str,
    *,
    ready: bool | None = True,
    serving: bool | None = True,
    terminating: bool | None = False,
) -> Json:
    """Return an endpoint; None leaves out a condition, or the pod."""
    given = {"ready": ready, "serving": serving, "terminating": terminating}
    made: Json = {
        "addresses": [address],
        "conditions": {name: value for name, value in given.items() if value is not None},
        "nodeName": "10.0.0.29",
        "zone": "eu-1a",
    }
    if pod is not None:
        made["targetRef"] = {"kind": "Pod", "namespace": "serving", "name": pod, "uid": uid(pod)}
    return made


def port(number: int | None = 8000, name: str = "http", protocol: str = "TCP", app: str | None = None) -> Json:
    return {"name": name, "protocol": protocol, "port": number} | ({"appProtocol": app} if app else {})


def endpoint_slice(
    name: str,
    endpoints: list[Json] | None,
    *,
    service: str = "vllm",
    ports: list[Json] | None = None,
    family: str = "IPv4",
    labels: dict[str, str] | None = None,
) -> Json:
    """Return an EndpointSlice as the controller writes it; Go writes a list of nothing as null."""
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": name,
            "generateName": f"{service}-",
            "namespace": "serving",
            "uid": uid(name),
            "generation": 2,
            "creationTimestamp": CREATED,
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": service,
                **(labels or {}),
            },
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-20T08:58:42Z"},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": service,
                    "uid": uid(service),
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "managedFields": [
                {
                    "manager": "kube-controller-manager",
                    "operation": "Update",
                    "apiVersion": "discovery.k8s.io/v1",
                    "time": CREATED,
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:addressType": {}, "f:endpoints": {}, "f:ports": {}},
                }
            ],
        },
        "addressType": family,
        "endpoints": endpoints or None,
        "ports": ports if ports is not None or not endpoints else [port()],
    }


def pod(
    name: str,
    address: str | None,
    *,
    ready: bool = True,
    terminating: bool = False,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
) -> Json:
    """Return a pod; one that is not scheduled yet has no address."""
    metadata: Json = {
        "name": name,
        "generateName": "vllm-7768647bf9-",
        "namespace": "serving",
        "uid": uid(name),
        "creationTimestamp": CREATED,
        "labels": {"app": "vllm", "pod-template-hash": "7768647bf9", **(labels or {})},
        "annotations": annotations or {},
    }
    if terminating:
        metadata |= {"deletionTimestamp": "2026-11-20T09:10:00Z", "deletionGracePeriodSeconds": 60}
    status: Json = {
        "phase": "Running" if address else "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": CREATED},
            {"type": "Ready", "status": str(ready), "lastProbeTime": None, "lastTransitionTime": CREATED},
        ],
        "qosClass": "Burstable",
    }
    if address:
        status |= {"hostIP": "10.0.0.29", "podIP": address, "podIPs": [{"ip": address}], "startTime": CREATED}
    spec = {"containers": [{"name": "vllm", "image": "vllm/vllm-openai:v0.11.0", "args": ["--port=8000"]}]}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": status}


def inference_pool(
    name: str = "llama", *ports: int, labels: dict[str, str] | None = None, app: str | None = None
) -> Json:
    """Return an InferencePool."""
    spec: Json = {
        "selector": {"matchLabels": {"app": "vllm"} if labels is None else labels},
        "targetPorts": [{"number": number} for number in ports or (8000,)],
        "endpointPickerRef": {"kind": "Service", "name": f"{name}-epp", "port": {"number": 9002}, "group": ""},
    }
    if app:
        spec["appProtocol"] = app
    return {
        "kind": "InferencePool",
        "apiVersion": "inference.networking.k8s.io/v1",
        "metadata": {
            "name": name,
            "namespace": "serving",
            "uid": uid(name),
            "generation": 1,
            "creationTimestamp": CREATED,
        },
        "spec": spec,
        "status": {"parents": []},
    }
