"""The README's commands for devices are run as printed, on a model small enough for all of them."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_readme import README, blocks, shell

MODEL = """
import sys
import tensorflow as tf

class Words(tf.Module):
    def __init__(self):
        self.embedding = tf.Variable(tf.random.normal([64, 32]), name="embedding")
        self.kernel = tf.Variable(tf.random.normal([32, 4]), name="kernel")

    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.int32, name="ids")])
    def __call__(self, ids):
        found = tf.gather(self.embedding, ids)
        return {"y": tf.matmul(tf.reduce_mean(found, axis=1), self.kernel)}

words = Words()
tf.saved_model.save(words, sys.argv[1], signatures=words.__call__)
"""

SECTION = README.partition("## TPU and GPU")[2].partition("\n## ")[0]
COMMANDS = blocks(SECTION, "bash")[0].splitlines()
COMPILES = [command for command in COMMANDS if command.startswith("jaxrt compile")]
ELSEWHERE, GPU, *REST = COMPILES


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("devices")
    subprocess.run(
        [sys.executable, "-c", MODEL, str(made / "model")], check=True, capture_output=True
    )
    return made


def _run(command: str, directory: Path) -> str:
    said = shell(command, directory)
    assert "wrote model.jaxrt" in said
    assert "100 % of FLOPs on device" in said
    return said


@pytest.mark.slow
def test_the_command_for_a_slice_of_tpus_compiles_and_its_plan_is_drawn(directory: Path) -> None:
    assert "--topology v5e:2x4" in ELSEWHERE
    assert "Plan for v5e:2x4" in _run(ELSEWHERE, directory)
    (inspect,) = [command for command in COMMANDS if command.startswith("jaxrt inspect")]
    shell(inspect, directory)
    assert "v5e:2x4" in (directory / "plan.svg").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("command", REST)
def test_the_other_commands_for_meshes_compile(command: str, directory: Path) -> None:
    assert "Plan for" in _run(command, directory)


@pytest.mark.cuda
def test_the_command_for_a_gpu_compiles(directory: Path) -> None:
    assert "--device h100" in GPU
    _run(GPU, directory)
