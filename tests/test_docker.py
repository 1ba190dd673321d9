"""The image: linted, with TensorFlow Serving's command line, without TensorFlow, not as root."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from endtoend import Server

from jaxrt.cli.flags.command import given, unknown
from jaxrt.cli.serve import command
from jaxrt.cli.settings import Settings, resolve

pytest_plugins = ("endtoend_fixtures",)

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def instructions(stage: str) -> list[tuple[str, str]]:
    """Of a stage and those it is made from, in their order."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE)
    stages = re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", text, flags=re.M | re.S)
    (origin, body) = next((origin, body) for origin, name, body in stages if name == stage)
    before = instructions(origin) if origin in [name for _, name, _ in stages] else []
    return before + re.findall(r"^([A-Z]+) (.*)$", body, flags=re.M)


def value(stage: str, instruction: str) -> str:
    return [text for name, text in instructions(stage) if name == instruction][-1]


def environment() -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(value("serve", "ENV")))


def settings(*words: str) -> Settings:
    """What the image's command line means with these words at its end."""
    program, verb, *flags = json.loads(value("serve", "ENTRYPOINT"))
    assert (program, verb) == ("jaxrt", "serve")
    context = command.make_context("serve", [*flags, *words])
    assert unknown(context) == []
    return resolve(Settings(**context.params, given=given(context)), environment())


def test_the_linter_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_default_stage_serves_without_tensorflow() -> None:
    assert re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.M)[-1] == "serve"
    origin = re.search(r"--from=(\S+)", value("serve", "COPY"))
    assert origin is not None and origin[1] == "build"
    assert "convert" not in value("build", "RUN")
    assert "convert" in value("build-convert", "RUN")


@pytest.mark.parametrize("stage", ["serve", "convert"])
def test_an_image_runs_without_root_and_checks_its_health(stage: str) -> None:
    assert value(stage, "USER") == "10001"
    assert "/readyz" in value(stage, "HEALTHCHECK")
    assert value(stage, "EXPOSE") == "8500 8501"


def test_the_command_line_is_that_of_tensorflow_servings_image() -> None:
    found = settings()
    assert (found.port, found.rest_api_port) == (8500, 8501)
    assert (found.model_name, found.model_base_path) == ("model", "/models/model")
    found = settings("--model_name=half", "--enable_batching")
    assert (found.model_name, found.model_base_path) == ("half", "/models/model")
    found = settings("--model_config_file=/models/models.config")
    assert (found.model_config_file, found.model_name) == ("/models/models.config", None)


def test_the_health_check_tells_a_server_that_is_ready(linear: Path, tmp_path: Path) -> None:
    words = json.loads(value("serve", "HEALTHCHECK").partition("CMD ")[2])
    assert words[0] == "python"
    with Server(linear / "2", home=tmp_path) as server:
        check = [sys.executable, words[1], words[2].replace("8501", str(server.port))]
        quiet = os.environ | {"NO_PROXY": "127.0.0.1"}
        assert subprocess.run(check, env=quiet, check=False).returncode == 0
        server.stop()
        gone = subprocess.run(check, env=quiet, check=False, stderr=subprocess.DEVNULL)
        assert gone.returncode == 1


def test_what_is_copied_is_what_the_package_is_built_from() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    links = {
        os.readlink(path).removeprefix("../")
        for path in (ROOT / "jaxrt").iterdir()
        if path.is_symlink()
    }
    assert kept == links | {"jaxrt", "pyproject.toml", "README.md", "LICENSE"}
    assert all((ROOT / name).exists() for name in kept)


def test_the_compose_file_has_the_image_its_ports_and_its_flags() -> None:
    service = COMPOSE["services"]["serve"]
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.M)
    assert {one["build"]["target"] for one in COMPOSE["services"].values()} <= set(stages)
    assert service["ports"] == ["8500:8500", "8501:8501"]
    assert service["environment"].keys() <= environment().keys()
    assert service["volumes"][0].split(":")[1] == environment()["MODEL_BASE_PATH"]
    found = settings(*service["command"])
    assert found.file_system_poll_wait_seconds == 1.0
    seconds = int(service["stop_grace_period"].removesuffix("s"))
    assert seconds > found.grace
    assert service["cap_drop"] == ["ALL"] and service["read_only"] is True
