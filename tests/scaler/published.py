"""KEDA's published `externalscaler.proto` as protobuf itself reads it: names, numbers and types of its fields."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "externalscaler"
_TEXT, _FLAG, _WHOLE, _REAL, _MESSAGE = 9, 8, 3, 1, 11
_ONE, _MANY = 1, 3
_FIELDS: dict[str, list[tuple[str, int, int, int, str]]] = {
    "ScaledObjectRef": [
        ("name", 1, _ONE, _TEXT, ""),
        ("namespace", 2, _ONE, _TEXT, ""),
        ("scalerMetadata", 3, _MANY, _MESSAGE, "ScaledObjectRef.ScalerMetadataEntry"),
    ],
    "IsActiveResponse": [("result", 1, _ONE, _FLAG, "")],
    "GetMetricSpecResponse": [("metricSpecs", 1, _MANY, _MESSAGE, "MetricSpec")],
    "MetricSpec": [
        ("metricName", 1, _ONE, _TEXT, ""),
        ("targetSize", 2, _ONE, _WHOLE, ""),
        ("targetSizeFloat", 3, _ONE, _REAL, ""),
    ],
    "GetMetricsRequest": [
        ("scaledObjectRef", 1, _ONE, _MESSAGE, "ScaledObjectRef"),
        ("metricName", 2, _ONE, _TEXT, ""),
    ],
    "GetMetricsResponse": [("metricValues", 1, _MANY, _MESSAGE, "MetricValue")],
    "MetricValue": [
        ("metricName", 1, _ONE, _TEXT, ""),
        ("metricValue", 2, _ONE, _WHOLE, ""),
        ("metricValueFloat", 3, _ONE, _REAL, ""),
    ],
}


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="externalscaler.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        if name == "ScaledObjectRef":
            entry = message.nested_type.add(name="ScalerMetadataEntry")
            entry.options.map_entry = True
            for number, each in enumerate(("key", "value"), 1):
                entry.field.add(name=each, number=number, label=_ONE, type=_TEXT)
        for field, number, label, kind, of in fields:
            of_message = {"type_name": f".{PACKAGE}.{of}"} if of else {}
            message.field.add(name=field, number=number, label=label, type=kind, **of_message)
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


def message(name: str) -> Any:
    """Return the class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def scaled_object(pool: str, **more: str) -> Any:
    """Return what KEDA sends of a ScaledObject whose trigger names a pool."""
    metadata = {"scalerAddress": "tidegate:9010", **({"pool": pool} if pool else {}), **more}
    return message("ScaledObjectRef")(name="vllm", namespace="serving", scalerMetadata=metadata)
