"""The table of native ops against TensorFlow's registry."""

import ast
import inspect
import json
import subprocess
import sys
from typing import Any

import pytest

from jaxrt.converters.host import native
from jaxrt.converters.host.graph import _value
from jaxrt.converters.host.outputs import RESULTS
from jaxrt.converters.host.protos import message_class
from jaxrt.converters.host.rules import OPS, op

REGISTRY = """
import json, sys
from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session as session
ops = op_def_pb2.OpList()
ops.ParseFromString(session.TF_GetBuffer(session.TF_GetAllOpList()))
defaults = {
    o.name: {
        a.name: a.default_value.SerializeToString().hex()
        for a in o.attr
        if a.HasField("default_value")
    }
    for o in ops.op
}
results = {o.name: [a.name for a in o.output_arg] for o in ops.op}
print(json.dumps([defaults, results]))
"""


@pytest.fixture(scope="module")
def registry() -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    done = subprocess.run([sys.executable, "-c", REGISTRY], capture_output=True, check=True)
    defaults, results = json.loads(done.stdout)
    return {op: {k: decoded(v) for k, v in d.items()} for op, d in defaults.items()}, results


def decoded(data: str) -> Any:
    """An AttrValue in hexadecimal → as a Node has it."""
    return _value(message_class("AttrValue").FromString(bytes.fromhex(data)))


def test_defaults_are_those_of_the_registry(
    registry: tuple[dict[str, dict[str, Any]], dict[str, list[str]]],
) -> None:
    declared = {
        (name, attr): value
        for name, rule in OPS.items()
        for attr, value in rule.defaults.items()
        if attr in registry[0][name]
    }
    assert declared
    assert declared == {(name, attr): registry[0][name][attr] for name, attr in declared}


def test_every_attribute_that_may_be_left_out_has_its_default(
    registry: tuple[dict[str, dict[str, Any]], dict[str, list[str]]],
) -> None:
    """A rule that reads attributes by name must not miss one that an exporter stripped."""
    lacking = {
        (name, attr)
        for name, rule in OPS.items()
        for attr in registry[0][name]
        if attr in read_by(rule.run) and attr not in rule.defaults
    }
    assert not lacking


def read_by(run: Any) -> set[str]:
    """Strings in the source of the rule's module that look like `attrs["name"]`."""
    source = ast.parse(inspect.getsource(sys.modules[run.__module__]))
    return {
        node.slice.value
        for node in ast.walk(source)
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    }


def test_every_module_of_rules_is_imported() -> None:
    assert len(native.RULES) > 15


def test_every_rule_is_of_an_op_of_tensorflow(
    registry: tuple[dict[str, dict[str, Any]], dict[str, list[str]]],
) -> None:
    assert set(OPS) <= set(registry[0])


def test_results_of_several_are_named_as_in_the_registry(
    registry: tuple[dict[str, dict[str, Any]], dict[str, list[str]]],
) -> None:
    found = {name: [result for result, _ in results] for name, results in RESULTS.items()}
    assert found == {name: registry[1][name] for name in found}
    several = {name for name in OPS if len(registry[1][name]) > 1}
    assert several <= set(found)


def test_an_op_has_one_rule() -> None:
    with pytest.raises(ValueError, match="op 'Add' already has a rule"):
        op("Add")(lambda node, x, y: x)
