"""The servers that jaxrt is compared with, each as one would write it by its documentation.

    python -m bench.http_peers install DIR      # an environment of its own for each, from PyPI
    DIR/kserve/bin/python bench/http_peers.py kserve tabular MODEL PORT

MODEL is a version directory of `http_models`. All of them run its `serving_default` by TensorFlow,
in one process where the server allows it; those that batch are told to, as jaxrt does by itself.
"""

import base64
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = {
    "starlette": ("starlette", "uvicorn[standard]", "orjson"),
    "kserve": ("kserve",),
    "litserve": ("litserve",),
    "pytriton": ("nvidia-pytriton",),
}
"""Peer → what is installed beside TensorFlow and numpy. PyTriton wants a Python with libpython."""

MAX_BATCH = 32


class Signature:
    """`serving_default` of a SavedModel: items of a JSON request in, lists for JSON out."""

    def __init__(self, model: str) -> None:
        import tensorflow as tf

        self._tf = tf
        self._model = tf.saved_model.load(model)
        self._function = self._model.signatures["serving_default"]
        ((self.name, self.spec),) = self._function.structured_input_signature[1].items()

    def tensor(self, items: list[Any]) -> Any:
        if self.spec.dtype == self._tf.string:
            items = [base64.b64decode(item["b64"]) for item in items]
            return self._tf.constant(items)
        import numpy as np

        return self._tf.constant(np.array(items, self.spec.dtype.as_numpy_dtype))

    def arrays(self, tensor: Any) -> Any:
        (outputs,) = self._function(**{self.name: tensor}).values()
        return outputs.numpy()

    def predictions(self, items: list[Any]) -> list[Any]:
        found: list[Any] = self.arrays(self.tensor(items)).tolist()
        return found


def starlette(model: str, name: str, port: int) -> None:
    """TensorFlow behind Starlette on uvicorn: uvloop, httptools, orjson, no batching."""
    import orjson
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    signature = Signature(model)

    async def predict(request: Request) -> Response:
        items = orjson.loads(await request.body())["instances"]
        found = await run_in_threadpool(signature.predictions, items)
        return Response(orjson.dumps({"predictions": found}), media_type="application/json")

    route = Route(f"/v1/models/{name}:predict", predict, methods=["POST"])
    uvicorn.run(Starlette(routes=[route]), port=port, access_log=False, log_level="error")


def kserve(model: str, name: str, port: int) -> None:
    """KServe's SDK server, v1 protocol."""
    import kserve as sdk

    signature = Signature(model)

    class Model(sdk.Model):  # type: ignore[misc]
        def load(self) -> bool:
            self.ready = True
            return True

        def predict(self, payload: Any, *_: Any, **__: Any) -> Any:
            return {"predictions": signature.predictions(payload["instances"])}

    served = Model(name)
    served.load()
    sdk.ModelServer(http_port=port, enable_grpc=False, workers=1, access_log_format=None).start(
        [served]
    )


def litserve(model: str, name: str, port: int) -> None:
    """LitServe with its batching; the model runs in a worker process."""
    import litserve as ls
    from http_litserve import Api

    api = Api(model, max_batch_size=MAX_BATCH, batch_timeout=0.001)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=port, num_api_servers=1, log_level="error", generate_client_file=False)


def pytriton(model: str, name: str, port: int) -> None:
    """PyTriton with its dynamic batching: Triton's HTTP server, the model in Python."""
    import numpy as np
    from pytriton.decorators import batch
    from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    signature = Signature(model)
    text = signature.spec.dtype.name == "string"
    dtype = np.bytes_ if text else signature.spec.dtype.as_numpy_dtype
    shape = (1,) if text else tuple(signature.spec.shape[1:])

    @batch  # type: ignore[untyped-decorator]
    def infer(x: Any) -> Any:
        items = [{"b64": item} for item in x[:, 0]] if text else x
        return {"y": signature.arrays(signature.tensor(items))}

    ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    with Triton(config=TritonConfig(**ports, exit_on_error=True)) as triton:
        triton.bind(
            model_name=name,
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=dtype, shape=shape)],
            outputs=[Tensor(name="y", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(max_batch_size=MAX_BATCH, batcher=DynamicBatcher()),
        )
        triton.serve()


def echo(model: str, name: str, port: int) -> None:
    """No model at all: what an ASGI application can do on uvicorn with the same bodies."""
    import uvicorn

    body = b'{\n    "predictions": [[0.752741575]\n    ]\n}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(app, port=port, lifespan="off", access_log=False, log_level="error")


PEERS: dict[str, Callable[[str, str, int], None]] = {
    "starlette": starlette,
    "kserve": kserve,
    "litserve": litserve,
    "pytriton": pytriton,
    "echo": echo,
}


def install(folder: Path) -> None:
    """One environment for each peer; a peer whose packages cannot be had is left out."""
    for peer, packages in PACKAGES.items():
        subprocess.run([sys.executable, "-m", "venv", folder / peer], check=True)
        pip = [str(folder / peer / "bin" / "python"), "-m", "pip", "install", "-q", "numpy"]
        subprocess.run([*pip, "tensorflow-cpu", *packages], check=False)


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["install"]:
        install(Path(arguments[1]))
        return
    peer, name, model, port = arguments
    PEERS[peer](model, name, int(port))


if __name__ == "__main__":
    main(sys.argv[1:])
