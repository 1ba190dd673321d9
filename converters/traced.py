"""What a run of a graph in TensorFlow did: every op that ran, with the shapes it took and gave."""

import re
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from jaxrt.converters.arithmetic import Ran, Tensor

_LABEL = re.compile(r".* = (\w+)\((.*)\)$", re.DOTALL)
"""`name = Op(input, input:1, ^control)`, by NodeExecStatsWrapper::SetTimelineLabel
(tensorflow/core/common_runtime/step_stats_collector.cc)."""


def traced(session: Any, fetches: Any, feeds: Mapping[str, Any]) -> tuple[Any, list[Ran]]:
    """The answers of a session's run, and the ops in the order in which they began.

    Loops and branches count as often as they ran. Raises TensorFlow's own errors.
    """
    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.SOFTWARE_TRACE)
    metadata = tf.compat.v1.RunMetadata()
    answers = session.run(fetches, feeds, options=options, run_metadata=metadata)
    stats = [n for device in metadata.step_stats.dev_stats for n in device.node_stats]
    seen: dict[str, Tensor] = {}
    found = []
    for node in sorted(stats, key=lambda n: int(n.all_start_micros)):
        outputs = {o.slot: _tensor(o.tensor_description) for o in node.output}
        # A node of a loop takes what its neighbours gave last: their latest shapes.
        if label := _LABEL.fullmatch(node.timeline_label):
            names = [name for name in label[2].split(", ") if name and name[0] != "^"]
            inputs = tuple(seen.get(name) for name in names)
            ordered = tuple(outputs[slot] for slot in sorted(outputs))
            found.append(Ran(op=label[1], inputs=inputs, outputs=ordered))
        for slot, tensor in outputs.items():
            seen[f"{node.node_name}:{slot}" if slot else node.node_name] = tensor
    return answers, found


def _tensor(description: Any) -> Tensor:
    return Tensor(
        dtype=str(tf.as_dtype(description.dtype).name),
        shape=tuple(int(dim.size) for dim in description.shape.dim),
    )
