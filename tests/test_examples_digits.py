"""The demo: its parts against a stand-in for the server, and the whole of it for real."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "digits.py"

# Answers class 3 for every image, is ready at the third question, ends with the code it is given.
SERVER = """
import http.server, json, signal, sys, threading

class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0

    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        Handler.asked += 1
        self.answer(200 if Handler.asked > 2 else 503, b"")

    def do_POST(self):
        instances = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["instances"]
        row = [0.0, 0.0, 0.0, 0.9] + 6 * [0.0]
        self.answer(200, json.dumps({"predictions": [row for _ in instances]}).encode())

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_example", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["digits_example"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def one_hot(answers: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.eye(10, dtype=np.float32)[answers]


def stand_in(digits: ModuleType, monkeypatch: pytest.MonkeyPatch, program: str, code: int) -> None:
    def command(*arguments: str) -> list[str]:
        assert arguments[:1] == ("serve",)
        return [sys.executable, "-c", program, arguments[-1], str(code)]

    monkeypatch.setattr(digits, "jaxrt", command)


def test_training_and_held_out_digits_are_scaled_and_always_the_same(digits: ModuleType) -> None:
    training, held_out = digits.load()
    again, _ = digits.load()
    assert training.images.shape == (1347, 8, 8)
    assert held_out.images.shape == (450, 8, 8)
    assert training.images.dtype == np.float32
    assert training.images.max() == 1.0
    assert np.array_equal(training.labels, again.labels)
    assert set(training.labels) == set(held_out.labels) == set(range(10))


def test_the_table_sets_answers_beside_the_truth_and_marks_wrong_ones(digits: ModuleType) -> None:
    lines = digits.table(one_hot([7, 2]), np.array([7, 5])).splitlines()
    assert lines[0].split() == ["image", "truth", "answer", "sure"]
    assert lines[1].split() == ["0", "7", "7", "100.0%"]
    assert lines[2].split() == ["1", "5", "2", "100.0%", "<-", "wrong"]


def test_accuracy_is_the_share_of_right_answers(digits: ModuleType) -> None:
    assert digits.accuracy(one_hot([1, 2, 3, 4]), np.array([1, 2, 3, 9])) == 0.75


def test_a_server_is_waited_for_asked_and_stopped(
    digits: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stand_in(digits, monkeypatch, SERVER, 0)
    data = digits.Digits(np.zeros((4, 8, 8), np.float32), np.array([3, 3, 3, 1]))
    assert digits.serve_and_ask(tmp_path / "m.jaxrt", data, tmp_path / "log") == 0.75
    assert "stopped with SIGTERM: exit code 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("program", "code", "message"),
    [
        (SERVER, 7, "exited with 7, not 0"),
        ("print('port taken'); raise SystemExit(1)", 0, "port taken"),
    ],
)
def test_a_server_that_fails_is_reported_with_its_log(
    digits: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    program: str,
    code: int,
    message: str,
) -> None:
    stand_in(digits, monkeypatch, program, code)
    data = digits.Digits(np.zeros((1, 8, 8), np.float32), np.array([3]))
    with pytest.raises(RuntimeError, match=message):
        digits.serve_and_ask(tmp_path / "m.jaxrt", data, tmp_path / "log")


def test_the_demo_trains_compiles_serves_and_answers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        text=True,
        capture_output=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "jaxrt compile" in done.stdout
    assert "right: 9" in done.stdout
