"""KEDA's external scaler, from a gRPC client to a gateway's real admin listener."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.e2e.grpc_client import call, scaler
from tests.e2e.keda import hpa
from tests.e2e.processes import engine, serving
from tests.e2e.test_capacity import knows, routes
from tests.scaler.published import message, scaled_object

grpc = pytest.importorskip("grpc")
pytestmark = pytest.mark.anyio


async def test_a_client_made_of_the_published_proto_scales_by_it(tmp_path: Path) -> None:
    async with engine() as one, engine() as two:
        async with serving(tmp_path, [], text=routes(one.urls[0], two.urls[0])) as gateway:
            await knows(gateway, target=2, problem="")
            async with scaler(gateway) as address, grpc.aio.insecure_channel(address) as channel:
                asked = scaled_object("gpu")
                stream = call(channel, "StreamIsActive", "IsActiveResponse", stream=True)(asked)
                assert (await stream.read()).result is True
                assert (await call(channel, "IsActive", "IsActiveResponse")(asked)).result is True
                (spec,) = (await call(channel, "GetMetricSpec", "GetMetricSpecResponse")(asked)).metricSpecs
                request = message("GetMetricsRequest")(scaledObjectRef=asked, metricName=spec.metricName)
                (found,) = (await call(channel, "GetMetrics", "GetMetricsResponse")(request)).metricValues
                assert (found.metricName, found.metricValueFloat, found.metricValue) == (spec.metricName, 2.0, 2)
                assert hpa(7, found.metricValueFloat, spec.targetSizeFloat) == 2
                for wrong, code in (("cpu", grpc.StatusCode.NOT_FOUND), ("", grpc.StatusCode.INVALID_ARGUMENT)):
                    with pytest.raises(grpc.aio.AioRpcError) as refused:
                        await call(channel, "IsActive", "IsActiveResponse")(scaled_object(wrong))
                    assert refused.value.code() is code
                    assert "pool" in refused.value.details()
                    ended = call(channel, "StreamIsActive", "IsActiveResponse", stream=True)(scaled_object(wrong))
                    assert (await ended.code(), await ended.details()) == (code, refused.value.details())
                stream.cancel()


async def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "hide.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'grpc':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from gateway.cli import main\n"
        "sys.argv[1:] = ['scaler']\n"
        "main()\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(tmp_path / "hide.py"), stderr=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode().splitlines() == [
        "tidegate: this command needs grpcio, which is not installed: pip install 'tidegate[grpc]'"
    ]
