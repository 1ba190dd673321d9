"""What importing jaxrt loads, and what it must never load: TensorFlow stays in its own process."""

import subprocess
import sys

import pytest

FORBIDDEN = {"tensorflow", "keras", "tf_keras", "orbax", "flax"}


def modules_loaded_by(code: str) -> set[str]:
    """Full names of the modules that a fresh interpreter imports for `code`."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}


def tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_the_parser_sees_a_nested_import() -> None:
    assert "json.decoder" in modules_loaded_by("import json")


@pytest.mark.parametrize(
    "module",
    [
        "jaxrt.serving.app",
        "jaxrt.serving.config",
        "jaxrt.serving.engine.source",
        "jaxrt.artifact",
        "jaxrt.compiler",
        "jaxrt.cli",
    ],
)
def test_no_module_of_a_serving_process_loads_tensorflow_or_a_training_library(module: str) -> None:
    loaded = modules_loaded_by(f"import {module}")
    assert module in loaded
    assert tops(loaded) & FORBIDDEN == set()
    assert not any(name.startswith("jax.experimental.jax2tf") for name in loaded)


def test_the_serving_layer_does_not_load_the_converters() -> None:
    loaded = modules_loaded_by("import jaxrt.serving.app")
    assert not any(name.startswith("jaxrt.converters") for name in loaded)


def test_import_jaxrt_loads_nothing_but_itself() -> None:
    before = modules_loaded_by("pass")
    assert modules_loaded_by("import jaxrt") - before == {"jaxrt"}
