"""The README's commands are run as printed; its flags, targets and exit codes exist."""

import dataclasses
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from jaxrt import errors
from jaxrt.cli import main, placing
from jaxrt.cli.devices import Meshing
from jaxrt.cli.flags.command import UNKNOWN
from jaxrt.tpu import targets

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN = README.partition("\n## ")[0]
READY_WITHIN = 120.0  # seconds
STOP_WITHIN = 60.0
OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

MODEL = """
import sys
import tensorflow as tf

class Half(tf.Module):
    def __init__(self):
        self.a, self.b = tf.Variable(0.5), tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": self.a * x + self.b}

half = Half()
tf.saved_model.save(half, sys.argv[1], signatures=half.__call__)
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One command of a console block and the answer printed below it."""

    command: str
    answer: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What happened when the quick start was run."""

    answers: dict[str, str]
    """Command → its standard output, for the commands that end."""
    exit_code: int
    """Of the server, after SIGTERM."""
    server_log: str
    """Standard error of the server, with every module it imported."""


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)


def steps(block: str) -> list[Step]:
    parts = re.split(r"^\$ ", block, flags=re.M)[1:]
    return [Step(*part.partition("\n")[::2]) for part in parts]


QUICK_START = [step for block in blocks(README, "console") for step in steps(block)]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("", 0))
        return int(sock.getsockname()[1])


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAXRT_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return kept | {"PATH": path, "JAX_PLATFORMS": "cpu"}


def wait_ready(url: str, server: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + READY_WITHIN
    while time.monotonic() < until and server.poll() is None:
        try:
            with OPEN(f"{url}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"not ready after {READY_WITHIN} s, exit code {server.poll()}")


def curl(command: str) -> str:
    """`curl -d BODY URL`, for machines without curl; the body of an error answer included."""
    program, flag, body, url = shlex.split(command)
    assert (program, flag) == ("curl", "-d"), command
    try:
        with OPEN(urllib.request.Request(f"http://{url}", data=body.encode()), timeout=30) as page:
            return str(page.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def shell(command: str, directory: Path) -> str:
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=directory, env=environment(), text=True, capture_output=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def serve(command: str, directory: Path) -> "subprocess.Popen[str]":
    with (directory / "server.log").open("w") as log:
        return subprocess.Popen(
            shlex.split(command.removesuffix("&")),
            cwd=directory,
            env=environment() | {"PYTHONPROFILEIMPORTTIME": "1"},
            text=True,
            stderr=log,
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The whole quick start, in its order, on a model that is made first."""
    directory = tmp_path_factory.mktemp("quick_start")
    subprocess.run(
        [sys.executable, "-c", MODEL, str(directory / "model")], check=True, capture_output=True
    )
    port, server, answers = str(free_port()), None, {}
    try:
        for step in QUICK_START:
            command = step.command.replace("8501", port)
            if command.endswith("&"):
                server = serve(command, directory)
                wait_ready(f"http://localhost:{port}", server)
            else:
                asks = command.startswith("curl")
                answers[step.command] = curl(command) if asks else shell(command, directory)
        assert server is not None
        server.send_signal(signal.SIGTERM)
        code = server.wait(STOP_WITHIN)
    finally:
        if server is not None:
            server.kill()
            server.wait()
    log = (directory / "server.log").read_text()
    yield Run(answers=answers, exit_code=code, server_log=log)


def test_every_command_of_the_quick_start_runs(run: Run) -> None:
    names = [step.command.split()[:2] for step in QUICK_START]
    for command in ("compile", "inspect", "verify", "serve"):
        assert ["jaxrt", command] in names
    assert len(run.answers) == len(QUICK_START) - 1  # the server prints no answer


def test_answers_are_those_printed(run: Run) -> None:
    printed = [step for step in QUICK_START if step.answer.strip()]
    assert any(step.command.startswith("curl") for step in printed)
    for step in printed:
        assert run.answers[step.command].strip() == step.answer.strip()


def test_the_answer_is_json_a_client_can_read(run: Run) -> None:
    (answer,) = [text for command, text in run.answers.items() if command.startswith("curl")]
    assert json.loads(answer) == {"predictions": [[2.5, 3.0]]}


def test_the_server_stops_with_exit_code_0_on_sigterm(run: Run) -> None:
    assert run.exit_code == 0


def test_the_server_never_imports_tensorflow_orbax_flax_or_keras(run: Run) -> None:
    lines = [line for line in run.server_log.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert {"jaxrt", "jax", "numpy"} <= loaded
    assert loaded & {"tensorflow", "keras", "tf_keras", "orbax", "flax"} == set()


def test_the_first_screen_is_one() -> None:
    assert FIRST_SCREEN.count("\n") <= 40
    for part in ("pip install", "jaxrt compile", "jaxrt verify", "jaxrt serve", "curl", "refused"):
        assert part in FIRST_SCREEN


def options() -> set[str]:
    found: set[str] = set()
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            found.update((*parameter.opts, *parameter.secondary_opts))
    return found


def test_every_flag_the_readme_names_is_a_flag_of_the_command_line() -> None:
    code = re.findall(r"^(?:\$ )?(jaxrt .*)$", README, flags=re.M)
    code += re.findall(r"`(--[^`]*)`", README)
    named = {flag for line in code for flag in re.findall(r"(?<!\S)--[a-z_-]+", line)}
    assert named
    assert named - options() == set()


def _devices_section() -> list[list[str]]:
    section = README.partition("## TPU and GPU")[2].partition("\n## ")[0]
    lines = [line for block in blocks(section, "bash") for line in block.splitlines()]
    return [shlex.split(line.partition(" #")[0]) for line in lines]


def test_every_command_for_devices_is_one_and_names_devices_that_are_known() -> None:
    found = _devices_section()
    assert {words[1] for words in found} == {"compile", "inspect", "serve"}
    for program, name, *arguments in found:
        assert program == "jaxrt"
        command = main.get_command(click.Context(main), name)
        assert command is not None
        with command.make_context(name, arguments) as context:
            given = context.params
        assert not context.meta.get(UNKNOWN)
        if name == "compile":
            meshing = {field.name: given[field.name] for field in dataclasses.fields(Meshing)}
            Meshing(**meshing).check()
            targets.named(given["device"], given["topology"])
        elif name == "serve":
            placing.count(given["replicas"])


def test_every_make_target_the_readme_names_is_there() -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.M))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert {"demo", "test"} <= named
    assert named - targets == set()


def test_the_exit_codes_are_those_of_the_errors() -> None:
    table = README.partition("## Exit codes")[2].partition("\n## ")[0]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", table, flags=re.M)}
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    raised = {cls.exit_code for cls in classes if issubclass(cls, errors.JaxrtError)}
    assert listed == raised | {0}


def test_the_folders_readmes_list_their_modules() -> None:
    script = Path(__file__).with_name("folder_readmes.py")
    done = subprocess.run([sys.executable, str(script), "--check"], text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
