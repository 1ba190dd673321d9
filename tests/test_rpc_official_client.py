"""TensorFlow Serving's own client and messages, against and beside ours."""

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rest_server import Echo, FakeModels, echo_signature, spec
from rpc_server import serving

from jaxrt.serving.config import ModelConfig
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.specs import DTYPES, SignatureSpec

HERE = Path(__file__).parent


def inferring() -> Echo:
    text, number = spec("string", "examples:0"), spec("float32", "y:0")

    def work(inputs: HostTensors, deadline: float | None) -> HostTensors:
        sizes = np.array([[len(text)] for text in inputs["inputs"]], np.float32)
        labels = np.full(sizes.shape, b"label", np.object_)
        return {"classes": labels, "scores": sizes, "outputs": sizes}

    signatures = {
        "classify": SignatureSpec(
            inputs={"inputs": text}, outputs={"classes": spec("string", "c:0"), "scores": number}
        ),
        "regress": SignatureSpec(inputs={"inputs": text}, outputs={"outputs": number}),
    }
    return Echo(name="infer", version=1, signatures=signatures, work=work)


class Reloads:
    async def reload(self, models: Sequence[ModelConfig]) -> None:
        assert [model.name for model in models] == ["n"]


@pytest.mark.slow
def test_the_official_client_is_served(tmp_path: Path) -> None:
    """Installs `tensorflow-serving-api` from the package index into an environment of its own."""
    venv.create(tmp_path / "client", with_pip=True)
    python = str(tmp_path / "client" / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", "tensorflow-serving-api"]
    subprocess.run(install, check=True)
    signatures = {
        name: echo_signature(x=name) for name, dtype in DTYPES.items() if dtype.numpy is not None
    }
    models = FakeModels(servables=[Echo(name="m", version=7, signatures=signatures), inferring()])
    with serving(models, reload=Reloads()) as running:
        script = [python, str(HERE / "official_client.py"), running.address, "200"]
        done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("ok\n")


def test_our_messages_live_beside_those_of_tensorflow() -> None:
    """In one process, in either order; the official package is made of the same names."""
    code = """
import sys
def ours():
    from jaxrt.serving import config
    from jaxrt.serving.rpc.messages import _MESSAGES, message
    for name in _MESSAGES: message(name)
    config.message_type()
def theirs():
    from google.protobuf import descriptor_pb2, descriptor_pool
    from tensorflow.core.framework import tensor_pb2
    from tensorflow.core.protobuf import meta_graph_pb2
    file = descriptor_pb2.FileDescriptorProto(
        name='tensorflow_serving/apis/predict.proto', package='tensorflow.serving', syntax='proto3')
    for name in ('ModelSpec', 'PredictRequest', 'ModelServerConfig', 'SSLConfig'):
        file.message_type.add(name=name)
    descriptor_pool.Default().Add(file) if hasattr(descriptor_pool.Default(), 'Add') else \\
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    descriptor_pool.Default().FindMessageTypeByName('tensorflow.serving.PredictRequest')
for work in (ours, theirs) if sys.argv[1] == 'ours' else (theirs, ours): work()
from jaxrt.serving.rpc.messages import message
from tensorflow.core.framework import tensor_pb2
proto = tensor_pb2.TensorProto(dtype=1, float_val=[1.5])
assert list(message('TensorProto').FromString(proto.SerializeToString()).float_val) == [1.5]
"""
    for first in ("ours", "theirs"):
        done = subprocess.run(
            [sys.executable, "-c", code, first], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
