"""Whole graphs without TensorFlow: functions, branches, loops, lists, tables, checks."""

from pathlib import Path
from typing import Any

import host_recordings
import numpy as np
import pytest
from host_differences import differences
from host_recordings import Case, Recording, strings
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.converters.host import graph, native
from jaxrt.converters.host.protos import message_class
from jaxrt.converters.host.tables import Table, read, write
from jaxrt.errors import (
    ArtifactError,
    FailedPrecondition,
    InvalidArgument,
    ModelError,
    UnsupportedOps,
)
from jaxrt.weights import write_weights

X = np.arange(6, dtype=np.float32).reshape(3, 2)
WORDS = strings(b"b", b"a b", b"", b"c")


def cases(tf: Any) -> dict[str, Case]:
    add_one = tf.function(lambda x: x + 1, autograph=False)

    def pair(x: Any) -> Any:
        a, b = tf.split(add_one(x), 2, axis=1)
        return add_one(tf.concat([b, a], 1)), tf.shape(x)[0]

    twice = tf.function(pair, autograph=False)

    def looped(x: Any) -> Any:
        start = (tf.constant(0), x)
        return tf.while_loop(lambda i, _: i < 3, lambda i, v: (i + 1, v + v), start)

    def chosen(x: Any) -> Any:
        return tf.cond(tf.reduce_max(x) > 4, lambda: x * 2, lambda: add_one(x))

    def switched(i: Any) -> Any:
        return tf.switch_case(i, [lambda: tf.constant(b"a"), lambda: tf.constant(b"b")])

    def mapped(words: Any) -> Any:
        def length(word: Any) -> Any:
            return tf.size(tf.strings.split([word])[0]), tf.strings.upper(word)

        return tf.map_fn(length, words, fn_output_signature=(tf.int32, tf.string))

    def scanned(x: Any) -> Any:
        return tf.scan(lambda a, v: a * 2 + v, x), tf.foldl(lambda a, v: a - v, x)

    def written(x: Any) -> Any:
        array = tf.TensorArray(tf.float32, size=3, element_shape=[2])
        array = array.write(0, x[2]).scatter([1], x[:1])
        return array.stack(), array.read(2), array.gather([1, 0]), array.concat()

    def grown(x: Any) -> Any:
        array = tf.TensorArray(tf.float32, size=0, dynamic_size=True, clear_after_read=False)
        for i in range(3):
            array = array.write(i, x[i])
        return array.stack(), array.size()

    def checked(x: Any) -> Any:
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(x > -1), [x, "low", 3])]):
            return tf.identity(x)

    def printed(x: Any, words: Any) -> Any:
        data = [x, words, x[0, 0] > 0, x * 0.3, tf.constant(1e20), tf.constant([1, 2], tf.int64)]
        with tf.control_dependencies([tf.debugging.Assert(tf.size(x) < 0, data, summarize=5)]):
            return tf.identity(x)

    def guard(x: Any) -> Any:
        tf.debugging.Assert(x[0, 0] < 9, ["high", x], summarize=10)
        return x * 2

    guarded = tf.function(guard, autograph=False)

    def by_hand(x: Any, flag: Any) -> Any:
        off, on = tf.raw_ops.Switch(data=x, pred=flag)
        with tf.control_dependencies([on]):
            one = tf.constant(1.0)
        with tf.control_dependencies([off]):
            two = tf.constant(2.0)
        return tf.raw_ops.Merge(inputs=[off * 3, on]), tf.raw_ops.Merge(inputs=[one, two])[0]

    return {
        "functions": (twice, [(X,)]),
        "a loop": (looped, [(X,)]),
        "a condition": (chosen, [(X,), (X - 9,)]),
        "a switch": (switched, [(np.asarray(i, np.int32),) for i in (0, 1, 2, -1)]),
        "a switch and a merge": (by_hand, [(X, np.asarray(True)), (X, np.asarray(False))]),
        "a map": (mapped, [(WORDS,), (WORDS[:1],)]),
        "a scan": (scanned, [(X,)]),
        "a tensor array": (written, [(X,)]),
        "a growing array": (grown, [(X,)]),
        "a check": (checked, [(X,), (X - 1.5,)]),
        "what a check prints": (
            printed,
            [(X, WORDS), (X * np.float32(1.1), strings(b"\xff'\"\n", b"", *[b"x"] * 5))],
        ),
        "a check in a function": (lambda x: guarded(x), [(X,), (X + 9,)]),
    }


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("native") / "recorded")


def test_functions_branches_loops_and_checks_run_as_in_tensorflow(
    recorded: dict[str, Recording],
) -> None:
    assert not differences(recorded)


def lookup_graph(op: str = "LookupTableFindV2") -> bytes:
    """default of [] int64; keys [n] of strings → values [n]."""
    proto = message_class("Graph")()
    keys = proto.node.add(name="keys", op="Placeholder")
    keys.attr.add(key="dtype").value.type = 7
    proto.node.add(name="table", op="HashTableV2")
    default = proto.node.add(name="default", op="Const")
    default.attr.add(key="dtype").value.type = 9
    tensor = default.attr.add(key="value").value.tensor
    tensor.dtype, tensor.int64_val[:] = 9, [-1]
    proto.node.add(name="find", op=op, input=["table", "keys", "default", "^table"])
    return bytes(proto.SerializeToString())


def test_a_lookup_finds_keys_and_gives_the_default_for_others(tmp_path: Path) -> None:
    write(tmp_path / "table", Table(strings(b"x", b"", b"yy"), np.array([5, 6, 7])))
    tables = {"table": read(tmp_path / "table")}
    parsed = graph.parse(lookup_graph())
    executor = native.Executor(parsed, {"words": "keys:0"}, {"ids": "find"}, tables)
    keys = strings(b"yy", b"no", b"", b"x").reshape(2, 2)
    found = executor.run({"words": keys})["ids"]
    assert found.dtype == np.int64
    assert found.tolist() == [[7, -1], [6, 5]]


def test_a_table_without_contents_fails_as_one_that_was_not_initialized() -> None:
    parsed = graph.parse(lookup_graph())
    executor = native.Executor(parsed, {"words": "keys:0"}, {"ids": "find:0"}, {})
    with pytest.raises(FailedPrecondition, match="Table not initialized."):
        executor.run({"words": strings(b"x")})


def test_ops_without_a_rule_are_named() -> None:
    parsed = graph.parse(lookup_graph("Conv2D"))
    assert native.missing(parsed, ["find:0"], ["keys:0"], ["table"]) == ("Conv2D",)
    assert native.missing(parsed, ["keys:0"], ["keys:0"]) == ()
    with pytest.raises(UnsupportedOps, match="Conv2D"):
        native.Executor(parsed, {"words": "keys:0"}, {"ids": "find:0"}, {})


def test_what_is_not_fed_fails_as_in_tensorflow() -> None:
    executor = native.Executor(graph.parse(lookup_graph()), {}, {"ids": "keys:0"}, {})
    with pytest.raises(InvalidArgument, match="You must feed a value for placeholder tensor"):
        executor.run({})


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(ModelError, match="the graph: 3 bytes are not a GraphDef"):
        graph.parse(b"\xff\xff\xff")


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=200),
    st.lists(st.integers(-5, 5), max_size=200),
)
def test_a_table_of_numbers_finds_what_a_dict_finds(keys: list[int], wanted: list[int]) -> None:
    table = Table(np.array(keys, np.int64), np.arange(len(keys)))
    index = {key: at for at, key in enumerate(keys)}
    sought = np.array([*wanted, *keys], np.int64)
    found = table.find(sought, np.asarray(-7))
    assert found.tolist() == [index.get(key, -7) for key in sought.tolist()]


@given(st.lists(st.binary(max_size=20), unique=True, max_size=50))
def test_a_table_of_strings_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, keys: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("tables") / "t"
    values = np.arange(len(keys), dtype=np.float32)
    write(path, Table(strings(*keys), values))
    table = read(path)
    assert (table.keys.tolist(), table.values.tolist()) == (keys, values.tolist())
    assert (table.key_dtype, table.value_dtype, len(table)) == ("string", "float32", len(keys))


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    write_weights(tmp_path / "t", {"keys": np.arange(3)})
    with pytest.raises(ArtifactError, match="want the keys and values of a table"):
        read(tmp_path / "t")
    write_weights(tmp_path / "u", {"keys": np.arange(3), "values": np.arange(2)})
    with pytest.raises(ArtifactError, match="want one each"):
        read(tmp_path / "u")
