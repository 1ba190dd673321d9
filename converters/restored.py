"""A SavedModel in TensorFlow's memory: its signatures as functions, their captures named."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import gen_resource_variable_ops

from jaxrt.converters import portable
from jaxrt.converters.arrays import Array
from jaxrt.converters.records import Output, Parameter
from jaxrt.converters.savedmodel import Source, first_line
from jaxrt.errors import ModelError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """A variable, or a constant that functions share; `read` copies it out of TensorFlow."""

    parameter: Parameter
    read: Callable[[], Array]
    constant: bool = False
    """No variable: nobody can ever change it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """A signature as a concrete function of (*inputs, *variables), with captures behind them."""

    concrete: Any
    """tf.ConcreteFunction."""
    inputs: tuple[str, ...]
    """Aliases, in the order of the parameters."""
    dtypes: tuple[Any, ...]
    """tf.DType of each input."""
    variables: tuple[Weight, ...]
    """Parameters that stand for TF1's reference variables."""
    captures: tuple[Weight, ...]
    outputs: tuple[Output, ...]

    @property
    def weights(self) -> tuple[Weight, ...]:
        return self.variables + self.captures

    def stablehlo(self, shapes: Mapping[str, Sequence[int]]) -> bytes:
        """A portable artifact. Raises TensorFlow's own ValueError and the like."""
        specs = [
            tf.TensorSpec(list(shapes[alias]), dtype)
            for alias, dtype in zip(self.inputs, self.dtypes, strict=True)
        ]
        specs += [
            tf.TensorSpec(list(w.parameter.shape), tf.as_dtype(w.parameter.dtype))
            for w in self.variables
        ]

        # What compiler_ir.from_concrete_function does, without its wish for declared shapes: it
        # reads an empty list of specs as "take the declared ones".
        def lowered(stage: str) -> Any:
            return context.context().get_compiler_ir(
                device_name=None,
                platform_name="CPU",
                function_name=self.concrete.name,
                flat_args=specs,
                captured_inputs=self.concrete.captured_inputs,
                stage=stage,
            )

        return portable.artifact(
            lowered("stablehlo_serialized"), lambda: lowered("stablehlo").decode()
        )


class Names:
    """Unique names: `kernel`, `kernel_1`, `kernel_2`, in the order they are asked for."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name


class Restored2:
    """A SavedModel written by tf.saved_model.save, Keras 2 or Keras 3."""

    def __init__(self, source: Source) -> None:
        self._root = load(source, lambda path, tags: tf.saved_model.load(path, tags))
        self._source = source
        self._weights: dict[int, Weight] = {}
        names = Names()
        # All signatures, sorted, before any is lowered: names must not depend on what is asked.
        for _, concrete in sorted(self._root.signatures.items()):
            handles = {id(v.handle): v.name for v in concrete.variables}
            for captured in concrete.captured_inputs:
                if id(captured) not in self._weights:
                    wanted = handles.get(id(captured), "constant").partition(":")[0]
                    self._weights[id(captured)] = weight(names.take(wanted), captured)

    def function(self, signature: str) -> Function:
        concrete = self._root.signatures[signature]
        captured = concrete.captured_inputs
        fed = concrete.inputs[: len(concrete.inputs) - len(captured)]
        outputs = sorted(concrete.structured_outputs)  # tf.nest's order, that of fn.outputs
        return Function(
            concrete=concrete,
            inputs=tuple(concrete._arg_keywords),
            dtypes=tuple(tensor.dtype for tensor in fed),
            variables=(),
            captures=tuple(self._weights[id(c)] for c in captured),
            outputs=tuple(
                Output(name=alias, dtype=tensor.dtype.name)
                for alias, tensor in zip(outputs, concrete.outputs, strict=True)
            ),
        )

    def concrete(self, signature: str) -> Any:
        """tf.ConcreteFunction."""
        return self._root.signatures[signature]

    def weight(self, captured: Any) -> Weight:
        """Of a tensor that a signature captures. A table's is one that nobody reads."""
        return self._weights[id(captured)]

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        answers: dict[str, Any] = self._root.signatures[signature](**inputs)
        return answers


def load(source: Source, loader: Callable[[str, list[str]], Any]) -> Any:
    """Raises ModelError where TensorFlow cannot restore the model."""
    record = source.record
    try:
        return loader(record.path, list(record.tags))
    except Exception as error:  # TensorFlow raises whatever its C++ and Python layers raise
        raise ModelError(
            f"{record.path}: TensorFlow cannot load it: {first_line(error)}; export it again"
        ) from error


def weight(name: str, captured: Any) -> Weight:
    """A resource variable's handle, or a tensor. Tables' handles give a weight nobody reads."""
    if captured.dtype != tf.resource:
        parameter = Parameter(name=name, dtype=captured.dtype.name, shape=tuple(captured.shape))
        return Weight(parameter=parameter, read=lambda: _host(captured), constant=True)
    known = getattr(captured, "_handle_data", None)
    # A table that may change says the dtypes of its keys and of its values.
    if known is None or not known.is_set or len(known.shape_and_type) != 1:
        parameter = Parameter(name=name, dtype="resource", shape=())
        return Weight(parameter=parameter, read=lambda: _host(captured))
    dtype = tf.as_dtype(known.shape_and_type[0].dtype)

    def read() -> Array:
        return _host(gen_resource_variable_ops.read_variable_op(captured, dtype))

    # The declared shape may have unknown sizes; the value's has none.
    shape = tf.TensorShape(known.shape_and_type[0].shape)
    sizes = tuple(shape) if shape.is_fully_defined() else read().shape
    return Weight(parameter=Parameter(name=name, dtype=dtype.name, shape=sizes), read=read)


def _host(tensor: Any) -> Array:
    value: Array = tensor.numpy()
    return value
