"""A SavedModel whose signatures declare other dtypes than their graph has.

python tests/declared_models.py OUT NAME...    # OUT/NAME/saved_model.pb
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import savedmodels
from savedmodels import builder


def build(out: Path, *names: str) -> Path:
    """Writes the named models under `out` and returns it."""
    done = subprocess.run(
        [sys.executable, __file__, str(out), *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@builder
def half_plus_three(path: str) -> None:
    """TF Serving's saved_model_half_plus_three: floats are declared, Examples are parsed."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        serialized = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = v1.parse_example(serialized, {"x": v1.FixedLenFeature([1], tf.float32)})
        x = tf.identity(parsed["x"], name="x")
        a = v1.get_variable("a", initializer=0.5, use_resource=False)
        y = tf.identity(x * a + 3.0, name="y")
        session.run(v1.global_variables_initializer())

        def scalar(tensor: Any) -> Any:
            return v1.saved_model.utils.build_tensor_info(tensor)

        given = scalar(serialized)
        given.dtype = tf.float32.as_datatype_enum
        given.tensor_shape.CopyFrom(tf.TensorShape([]).as_proto())
        define = v1.saved_model.signature_def_utils.build_signature_def
        plain = {"x": scalar(x)}, {"y": scalar(y)}, "tensorflow/serving/predict"
        regress = {"inputs": given}, {"outputs": scalar(y)}, "tensorflow/serving/regress"
        signatures = {
            "serving_default": define(*plain),
            "tensorflow/serving/regress": define(*regress),
            "misnamed": define(*regress[:2], "tensorflow/serving/predict"),
        }
        save = v1.saved_model.builder.SavedModelBuilder(path)
        save.add_meta_graph_and_variables(session, ["serve"], signatures)
        save.save()


if __name__ == "__main__":
    savedmodels.main(sys.argv[1:])
