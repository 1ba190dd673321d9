"""Tiny SavedModels that need a host and a device, written by TensorFlow in a process of its own.

python tests/mixed_models.py OUT NAME...    # OUT/NAME/saved_model.pb
"""

# mypy: disable-error-code="untyped-decorator"

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
def words(path: str) -> None:
    """tf.Module: vocabularies, embeddings, labels; numbers beside them; checks and dead ends."""
    import numpy as np
    import tensorflow as tf

    def table(keys: list[str]) -> Any:
        pairs = tf.lookup.KeyValueTensorInitializer(keys, np.arange(len(keys), dtype="i8"))
        return tf.lookup.StaticHashTable(pairs, -1)

    draw = np.random.default_rng(0)

    def variable(*shape: int) -> Any:
        return tf.Variable(draw.standard_normal(shape).astype("f4"))

    text = tf.TensorSpec([None], tf.string, name="text")
    numbers = tf.TensorSpec([None, 4], tf.float32, name="x")

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.table = table(["a", "Cash", "7"])
            self.embedding = variable(4, 3)
            self.kernel, self.square = variable(3, 2), variable(4, 4)
            self.labels = tf.constant(["no", "yes", "both", "none"])
            self.extra = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)

        def _ids(self, text: Any) -> Any:
            return self.table.lookup(tf.strings.strip(text)) + 1

        @tf.function(input_signature=[text])
        def labelled(self, text: Any) -> dict[str, Any]:
            logits = tf.gather(self.embedding, self._ids(text)) @ self.kernel
            return {"label": tf.gather(self.labels, tf.argmax(logits, 1))}

        @tf.function(input_signature=[text, numbers])
        def shared(self, text: Any, x: Any) -> dict[str, Any]:
            said = tf.strings.join([text, tf.strings.as_string(tf.cast(x[:, 0] * 10, tf.int32))])
            return {"said": said, "y": x @ self.square, "x": x * 2.0, "text": text}

        @tf.function(
            input_signature=[numbers, tf.TensorSpec([None, 9], tf.float32, name="unused"), text]
        )
        def unused(self, x: Any, unused: Any, text: Any) -> dict[str, Any]:
            return {"y": x @ self.square, "length": tf.strings.length(text)}

        @tf.function(input_signature=[text])
        def echoed(self, text: Any) -> dict[str, Any]:
            return {"text": tf.strings.upper(text), "again": text}

        @tf.function(input_signature=[numbers])
        def checked(self, x: Any) -> dict[str, Any]:
            tf.debugging.assert_less(x, 100.0, message="want small numbers")
            return {"y": x @ self.square}

        @tf.function(input_signature=[numbers])
        def checked_late(self, x: Any) -> dict[str, Any]:
            y = x @ self.square
            tf.debugging.assert_less(y, 1e6, message="want small answers")
            return {"y": y}

        @tf.function(input_signature=[numbers])
        def positive(self, x: Any) -> dict[str, Any]:
            y = x @ self.square
            kept = tf.boolean_mask(y, y[:, 0] > 0)
            return {"sum": tf.reduce_sum(kept, 0), "y": y, "text": tf.strings.as_string(y)}

        @tf.function(input_signature=[text, numbers])
        def sized(self, text: Any, x: Any) -> dict[str, Any]:
            ones = tf.ones([tf.shape(text)[0], 4])
            return {"y": tf.concat([x, ones], 1) @ tf.concat([self.square, self.square], 0)}

        @tf.function(input_signature=[text, tf.TensorSpec([], tf.bool, name="loud")])
        def chosen(self, text: Any, loud: Any) -> dict[str, Any]:
            # AutoGraph makes it a functional If, whose branches look words up.
            ids = self._ids(tf.strings.upper(text)) if loud else self._ids(text)
            return {"y": tf.gather(self.embedding, ids) @ self.kernel}

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.string, name="sentence")])
        def read(self, sentence: Any) -> dict[str, Any]:
            words = tf.gather(self.embedding, self._ids(sentence))
            state, length = tf.zeros([tf.shape(sentence)[0], 3]), tf.shape(words)[1]
            state = tf.while_loop(
                lambda i, _: i < length,
                lambda i, s: (i + 1, tf.tanh(s * 0.5 + words[:, i])),
                [0, state],
            )[1]
            return {"y": state @ self.kernel}

        @tf.function(input_signature=[text, numbers])
        def adds(self, text: Any, x: Any) -> dict[str, Any]:
            self.extra.insert(text, tf.ones_like(text, tf.int64))
            return {"y": x @ self.square}

        @tf.function(input_signature=[text])
        def reads_added(self, text: Any) -> dict[str, Any]:
            return {"y": self.extra.lookup(text)}

    model = Model()
    names = (
        "labelled", "shared", "unused", "echoed", "checked", "checked_late", "positive", "sized",
        "chosen", "read", "adds", "reads_added",
    )  # fmt: skip
    tf.saved_model.save(model, path, signatures={name: getattr(model, name) for name in names})


@builder
def examples(path: str) -> None:
    """tf.Example in: dense numbers and strings, a missing value's default, a sparse feature."""
    import numpy as np
    import tensorflow as tf

    features = {
        "age": tf.io.FixedLenFeature([2], tf.float32),
        "city": tf.io.FixedLenFeature([1], tf.string, default_value=["nowhere"]),
        "tags": tf.io.VarLenFeature(tf.string),
    }
    serialized = tf.TensorSpec([None], tf.string, name="examples")

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(np.linspace(-1, 1, 21, dtype="f4").reshape(7, 3))

        @tf.function(input_signature=[serialized])
        def classify(self, examples: Any) -> dict[str, Any]:
            parsed = tf.io.parse_example(examples, features)
            age = (parsed["age"] - 40.0) / 12.0
            city = tf.strings.to_hash_bucket_fast(parsed["city"][:, 0], 5)
            logits = tf.concat([age, tf.one_hot(city, 5)], 1) @ self.kernel
            classes = tf.tile(tf.constant([["a", "b", "c"]]), [tf.shape(logits)[0], 1])
            return {"scores": tf.nn.softmax(logits), "classes": classes}

        @tf.function(input_signature=[serialized])
        def counted(self, examples: Any) -> dict[str, Any]:
            parsed = tf.io.parse_example(examples, features)
            dense = tf.sparse.to_dense(parsed["tags"], default_value="")
            count = tf.reduce_sum(tf.cast(tf.not_equal(dense, ""), tf.float32), 1)
            rows = tf.stack([count] * 7, 1)
            return {"y": tf.ensure_shape(rows, [None, 7]) @ self.kernel}

    model = Model()
    signatures = {"classify": model.classify, "counted": model.counted}
    tf.saved_model.save(model, path, signatures=signatures)


@builder
def images(path: str) -> None:
    """PNG bytes in, decoded one by one in map_fn, then a convolution."""
    import numpy as np
    import tensorflow as tf

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            kernel = np.random.default_rng(0).standard_normal((3, 3, 3, 4))
            self.kernel = tf.Variable(kernel.astype("f4"))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="png")])
        def serving_default(self, png: Any) -> dict[str, Any]:
            def pixels(one: Any) -> Any:
                decoded = tf.io.decode_png(one, channels=3)
                return tf.ensure_shape(tf.image.resize(decoded, [8, 8]), [8, 8, 3])

            found = tf.map_fn(pixels, png, fn_output_signature=tf.TensorSpec([8, 8, 3]))
            return {"y": tf.nn.relu(tf.nn.conv2d(found / 255.0, self.kernel, 2, "SAME"))}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="jpeg")])
        def pooled(self, jpeg: Any) -> dict[str, Any]:
            def pixels(one: Any) -> Any:
                decoded = tf.io.decode_jpeg(one, channels=3)
                return tf.ensure_shape(tf.cast(decoded, tf.float32), [48, 64, 3])

            found = tf.map_fn(pixels, jpeg, fn_output_signature=tf.float32)
            return {"y": tf.nn.avg_pool2d(found, 16, 16, "VALID")}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def three(self, text: Any) -> dict[str, Any]:
            """The lengths of the first three, and one; zeros for the others."""

            def step(at: Any, found: Any) -> Any:
                size = tf.cast(tf.strings.length(text[at]), tf.float32)
                return at + 1, found.write(at, size + 1.0)

            empty = tf.TensorArray(tf.float32, tf.size(text), element_shape=[])
            limit = tf.minimum(3, tf.size(text))
            _, found = tf.while_loop(lambda at, _: at < limit, step, (0, empty))
            return {"y": tf.square(found.stack())}

    model = Model()
    names = ("serving_default", "pooled", "three")
    signatures = {name: getattr(model, name) for name in names}
    tf.saved_model.save(model, path, signatures=signatures)


@builder
def bags(path: str) -> None:
    """tf.Example in: lists of ids, their embeddings combined; a bucketized number; counts."""
    import numpy as np
    import tensorflow as tf

    features = {"ids": tf.io.VarLenFeature(tf.int64), "age": tf.io.FixedLenFeature([1], tf.float32)}
    serialized = tf.TensorSpec([None], tf.string, name="examples")

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            draw = np.random.default_rng(0)
            self.table = tf.Variable(draw.standard_normal((50, 3)).astype("f4"))
            self.kernel = tf.Variable(draw.standard_normal((3, 2)).astype("f4"))

        def _combined(self, examples: Any, combiner: str) -> dict[str, Any]:
            ids = tf.io.parse_example(examples, features)["ids"]
            sums = tf.nn.safe_embedding_lookup_sparse(self.table, ids, combiner=combiner)
            return {"y": sums @ self.kernel}

        @tf.function(input_signature=[serialized])
        def added(self, examples: Any) -> dict[str, Any]:
            return self._combined(examples, "sum")

        @tf.function(input_signature=[serialized])
        def mean(self, examples: Any) -> dict[str, Any]:
            return self._combined(examples, "mean")

        @tf.function(input_signature=[serialized])
        def sqrtn(self, examples: Any) -> dict[str, Any]:
            return self._combined(examples, "sqrtn")

        @tf.function(input_signature=[serialized])
        def counted(self, examples: Any) -> dict[str, Any]:
            ids = tf.io.parse_example(examples, features)["ids"]
            hot = tf.one_hot(tf.sparse.to_dense(ids, default_value=-1), 3)
            return {"y": tf.ensure_shape(tf.reduce_sum(hot, -2), [None, 3]) @ self.kernel}

        @tf.function(input_signature=[serialized])
        def bucketized(self, examples: Any) -> dict[str, Any]:
            age = tf.io.parse_example(examples, features)["age"]
            rows, columns = tf.shape(age)[0], age.shape[1]
            of_row = tf.tile(tf.expand_dims(tf.range(0, rows), 1), [1, columns])
            of_column = tf.tile(tf.range(0, columns), [rows])
            indices = tf.transpose(tf.stack((tf.reshape(of_row, [-1]), of_column)))
            found = tf.raw_ops.Bucketize(input=age, boundaries=[0.0, 10.0, 20.0])
            ids = tf.SparseTensor(
                tf.cast(indices, tf.int64),
                tf.reshape(found, [-1]),
                tf.cast(tf.stack([rows, columns]), tf.int64),
            )
            sums = tf.nn.safe_embedding_lookup_sparse(self.table, ids, combiner="sum")
            return {"y": sums @ self.kernel}

    model = Model()
    names = ("added", "mean", "sqrtn", "counted", "bucketized")
    tf.saved_model.save(model, path, signatures={name: getattr(model, name) for name in names})


@builder
def frames(path: str) -> None:
    """TF1: nested while frames, conds in loops and in conds, asserts, a table, Examples."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as s:
        v1.disable_control_flow_v2()
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        word = v1.placeholder(tf.string, [None], name="word")
        training = v1.placeholder(tf.bool, name="training")
        w = v1.get_variable("w", initializer=[[0.5, 0.25], [-0.25, 0.5]], use_resource=False)
        pairs = tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([1.0, 2.0]))
        table = tf.lookup.StaticHashTable(pairs, 0.5)

        def twice(i: Any, state: Any) -> Any:
            inner = v1.while_loop(
                lambda j, h: j < 2,
                lambda j, h: (j + 1, h @ w + tf.cast(i, tf.float32)),
                [tf.constant(0), state],
            )[1]
            return i + 1, v1.cond(i > 0, lambda: inner * 0.5, lambda: tf.tanh(inner))

        _, looped = v1.while_loop(lambda i, h: i < 3, twice, [tf.constant(0), x])
        scaled = v1.while_loop(
            lambda i, h: i < 2,
            lambda i, h: (i + 1, h @ w),
            [tf.constant(0), x * table.lookup(word)[:, tf.newaxis]],
        )[1]
        deep = v1.cond(
            training,
            lambda: v1.cond(tf.size(word) > 1, lambda: x @ w, lambda: tf.zeros_like(x)),
            lambda: x + 1.0,
        )
        again = v1.cond(training, lambda: deep * 2.0, lambda: deep - tf.constant(1.0))
        array = v1.TensorArray(tf.float32, size=tf.shape(x)[0]).unstack(x)
        mapped = v1.while_loop(
            lambda i, out: i < tf.shape(x)[0],
            lambda i, out: (i + 1, out.write(i, tf.cumsum(array.read(i)))),
            [tf.constant(0), v1.TensorArray(tf.float32, size=tf.shape(x)[0])],
        )[1].stack()
        guard = v1.assert_positive(x, message="want positive")
        with v1.control_dependencies([guard]):
            guarded = tf.matmul(x, w)
        parsed = v1.parse_example(word, {"v": v1.FixedLenFeature([2], tf.float32)})
        s.run([v1.global_variables_initializer(), v1.tables_initializer()])
        info = v1.saved_model.utils.build_tensor_info

        def signature(inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
            return v1.saved_model.signature_def_utils.build_signature_def(
                {k: info(t) for k, t in inputs.items()},
                {k: info(t) for k, t in outputs.items()},
                "tensorflow/serving/predict",
            )

        both = {"x": x, "word": word}
        save = v1.saved_model.builder.SavedModelBuilder(path)
        save.add_meta_graph_and_variables(
            s,
            ["serve"],
            {
                "looped": signature({"x": x}, {"y": looped}),
                "scaled": signature(both, {"y": scaled}),
                "branched": signature({**both, "training": training}, {"y": deep, "z": again}),
                "mapped": signature({"x": x}, {"y": mapped @ w}),
                "guarded": signature({"x": x}, {"y": guarded}),
                "parsed": signature({"word": word}, {"y": parsed["v"] @ w}),
            },
            main_op=v1.tables_initializer(),
        )
        save.save()


if __name__ == "__main__":
    savedmodels.main(sys.argv[1:])
