"""One engine in one process: loads a model, and runs it when asked, by lines of JSON on its pipes.

{"rows": 8, "inputs": "FILE.npz"}   → {"ok": true}: loaded, and run once
{"repeat": 5}                       → {"seconds": [...]}: numpy in, numpy out, each run timed
{"outputs": "FILE.npz"}             → {"ok": true}: the last answers, for comparison
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.engine.zoo import MODELS

Array = np.ndarray[Any, Any]
Outputs = list[Array]
Run = Callable[[], Outputs]
Load = Callable[["Question"], Run]

THREADS = 2


class Unsupported(Exception):
    """This engine does not take this model; the reason in one line."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A SavedModel, where things made from it may be kept, and inputs: alias → [rows, ...]."""

    model: Path
    work: Path
    inputs: Mapping[str, Array]

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))


def jaxrt(question: Question) -> Run:
    """The artifact's program: what a request runs, without HTTP and without a queue."""
    from jaxrt import loader, target
    from jaxrt.artifact import open_artifact
    from jaxrt.cli import hosts

    opened = open_artifact(artifact(question.model, question.work))
    loaded = loader.load(opened, target.select("cpu"), open_host=hosts.opener(opened))
    signature = loaded.signatures["serving_default"]
    if signature.stages:
        return _stages(signature, question)
    for entry in signature.programs:
        if all(
            entry.entry.input_shapes[name] == array.shape for name, array in question.inputs.items()
        ):
            return lambda: list(entry.program.run(dict(question.inputs)).values())
    raise Unsupported(f"no program for {question.rows} rows in {opened.path}")


def _stages(signature: Any, question: Question) -> Run:
    """Stage after stage, each on the program for so many rows."""

    def run() -> Outputs:
        known: dict[str, Array] = dict(question.inputs)
        for stage in signature.stages:
            taken = {name: known[name] for name in stage.entry.spec.inputs}
            if stage.host is not None:
                known |= stage.host.run(taken)
                continue
            shapes = {name: array.shape for name, array in taken.items()}
            fitting = [e for e in stage.programs if dict(e.entry.input_shapes) == shapes]
            if not fitting:
                raise Unsupported(f"no program of a stage takes {shapes}")
            known |= fitting[0].program.run(taken)
        return [known[name] for name in signature.spec.outputs]

    return run


def artifact(model: Path, work: Path) -> Path:
    """Where `engine` keeps the artifact it has compiled from a model."""
    return work / f"{model.name}.jaxrt"


def _tensorflow(question: Question, *, jit: bool) -> Run:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    loaded = tf.saved_model.load(str(question.model))  # its variables live as long as it does
    signature = loaded.signatures["serving_default"]
    function = tf.function(lambda **inputs: signature(**inputs), jit_compile=True)
    called = function if jit else signature

    def run() -> Outputs:
        tensors = {name: tf.constant(array) for name, array in question.inputs.items()}
        assert loaded is not None
        return [tensor.numpy() for tensor in called(**tensors).values()]

    try:
        run()
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        raise Unsupported(str(error).splitlines()[0]) from error
    return run


def tensorflow(question: Question) -> Run:
    """The signature as a graph: what TensorFlow Serving runs."""
    return _tensorflow(question, jit=False)


def tensorflow_xla(question: Question) -> Run:
    return _tensorflow(question, jit=True)


def openvino(question: Question) -> Run:
    """Reads the SavedModel itself; float32, for latency, as many threads as all others."""
    import openvino as ov

    _no_strings(question)
    core = ov.Core()
    try:
        model = core.read_model(str(question.model))
        names = {port: name for port in model.inputs for name in _named(port, question)}
        model.reshape({port: list(question.inputs[name].shape) for port, name in names.items()})
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": THREADS,
            },
        )
    except RuntimeError as error:
        raise Unsupported(str(error).splitlines()[-1]) from error
    request = compiled.create_infer_request()
    places = {index: names[port] for index, port in enumerate(model.inputs)}
    fed = {index: question.inputs[name] for index, name in places.items()}
    return lambda: [np.array(array) for array in request.infer(fed).values()]


def _named(port: Any, question: Question) -> list[str]:
    """OpenVINO names an input after its tensor (`serving_default_x:0`); the alias is within."""
    plain = [name.removeprefix("serving_default_").split(":")[0] for name in port.get_names()]
    return [name for name in plain if name in question.inputs][:1]


def onnxruntime(question: Question) -> Run:
    """Through tf2onnx; float32, all optimizations, threads that do not spin between runs."""
    import onnxruntime as ort

    _no_strings(question)
    path = question.work / f"{question.model.name}.onnx"
    if not path.exists():
        raise Unsupported(f"tf2onnx made no model; see {path.with_suffix('.onnx.log')}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    fed = {
        one.name: question.inputs[one.name.removeprefix("serving_default_").split(":")[0]]
        for one in session.get_inputs()
    }
    return lambda: list(session.run(None, fed))


def _no_strings(question: Question) -> None:
    if any(array.dtype == object for array in question.inputs.values()):
        raise Unsupported("takes no strings")


CONTENDERS: Mapping[str, Load] = {
    "jaxrt": jaxrt,
    "tensorflow": tensorflow,
    "tensorflow_xla": tensorflow_xla,
    "openvino": openvino,
    "onnxruntime": onnxruntime,
}


class Contender:
    """The state of this process: one loaded model."""

    def __init__(self, load: Load, model: Path, work: Path) -> None:
        self._load, self._model, self._work = load, model, work
        self._run: Run | None = None
        self._last: Outputs = []

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if "rows" in asked:
            random = np.random.default_rng(asked["rows"])
            inputs = MODELS[self._model.name].inputs(random, asked["rows"])
            self._run = self._load(Question(model=self._model, work=self._work, inputs=inputs))
            self._last = self._run()
            return {"ok": True}
        assert self._run is not None, "asked to run before there was a model"
        if "outputs" in asked:
            named: Any = {str(number): array for number, array in enumerate(self._last)}
            np.savez(asked["outputs"], **named)
            return {"ok": True}
        seconds = []
        for _ in range(asked["repeat"]):
            started = time.perf_counter()
            self._last = self._run()
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}


def main() -> None:
    name, model, work = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    contender = Contender(CONTENDERS[name], Path(model), Path(work))
    for line in sys.stdin:
        try:
            answer = contender.answer(json.loads(line))
        except Unsupported as error:
            answer = {"unsupported": str(error)}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
