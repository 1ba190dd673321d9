"""Command lines and files of TensorFlow Serving's guides, unchanged but for places and ports."""

import re
import shlex
import shutil
from pathlib import Path

from endtoend import Server

pytest_plugins = ("endtoend_fixtures",)

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")

# https://www.tensorflow.org/tfx/serving/serving_config
MODELS = """
model_config_list {
  config {
    name: 'my_first_model'
    base_path: '/tmp/my_first_model/'
    model_platform: 'tensorflow'
    model_version_policy {
      specific {
        versions: 1
        versions: 2
      }
    }
    version_labels {
      key: 'stable'
      value: 1
    }
    version_labels {
      key: 'canary'
      value: 2
    }
  }
  config {
    name: 'my_second_model'
    base_path: '/tmp/my_second_model/'
    model_platform: 'tensorflow'
  }
}
"""
MODELS_COMMAND = (
    "--port=8500 --rest_api_port=8501 --model_config_file=/models/models.config "
    "--model_config_file_poll_wait_seconds=60 --allow_version_labels_for_unavailable_models=true"
)

# https://github.com/tensorflow/serving/blob/master/tensorflow_serving/batching/README.md
BATCHING = """
max_batch_size { value: 128 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 1000000 }
num_batch_threads { value: 8 }
"""
BATCHING_COMMAND = (
    "--port=8500 --rest_api_port=8501 --model_name=my_model --model_base_path=/models/my_model "
    "--enable_batching=true --batching_parameters_file=/models/batching_parameters.txt "
    "--tensorflow_session_parallelism=2 --rest_api_num_threads=8"
)


def words(command: str, home: Path) -> list[str]:
    """With places below `home`, and any free ports; REST's is the test server's."""
    moved = command.replace("=/models", f"={home}")
    return re.sub(r"--rest_api_port=\d+ ", "", re.sub(r"--port=\d+", "--port=auto", moved)).split()


def times(server: Server, model: str) -> float:
    status, answer = server.predict(model, {"x": [1.0]})
    assert status == 200, answer
    return float(answer[0])


def test_the_guide_to_several_models(linear: Path, tmp_path: Path) -> None:
    for name in ("my_first_model", "my_second_model"):
        shutil.copytree(linear, tmp_path / name)
    (tmp_path / "models.config").write_text(MODELS.replace("'/tmp/", f"'{tmp_path}/"))
    with Server(*words(MODELS_COMMAND, tmp_path), home=tmp_path) as server:
        assert times(server, "my_first_model") == 2.0
        assert times(server, "my_first_model/labels/stable") == 1.0
        assert times(server, "my_first_model/labels/canary") == 2.0
        assert times(server, "my_second_model") == 10.0


def test_the_guide_to_batching(linear: Path, tmp_path: Path) -> None:
    shutil.copytree(linear, tmp_path / "my_model")
    (tmp_path / "batching_parameters.txt").write_text(BATCHING)
    with Server(*words(BATCHING_COMMAND, tmp_path), home=tmp_path) as server:
        assert times(server, "my_model") == 10.0
        assert "flags that decide nothing here: --rest_api_num_threads" in server.log
        assert "unknown argument" not in server.log


def test_the_command_line_of_the_readme(linear: Path, tmp_path: Path) -> None:
    section = README.partition("## Moving from TensorFlow Serving")[2].partition("\n## ")[0]
    there, here = re.findall(r"^(tensorflow_model_server|jaxrt serve) (.*)$", section, flags=re.M)
    assert there[1] == here[1]
    shutil.copytree(linear, tmp_path / "half")
    with Server(*words(shlex.join(shlex.split(here[1])), tmp_path), home=tmp_path) as server:
        assert times(server, "half") == 10.0


def test_the_environment_of_the_image_names_the_model(linear: Path, tmp_path: Path) -> None:
    shutil.copytree(linear, tmp_path / "half")
    with Server(
        "--port=auto", home=tmp_path, MODEL_NAME="half", MODEL_BASE_PATH=str(tmp_path)
    ) as server:
        assert times(server, "half") == 10.0
        assert "gRPC port" in server.log
