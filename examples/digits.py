"""Train, compile, serve and ask: scikit-learn's digits, through the command line a user has.

    python examples/digits.py [DIRECTORY]     # `make demo`

Three processes: one trains with TensorFlow, one serves without it, this one asks.
"""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

READY_WITHIN = 60.0  # seconds; a ready server takes about 3
STOP_WITHIN = 30.0  # seconds
WANTED_ACCURACY = 0.95  # measured 0.976; less means wrong answers, not a bad seed

# Straight to the local server, whatever http_proxy says.
OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@dataclasses.dataclass(frozen=True, slots=True)
class Digits:
    """Images [n, 8, 8] float32 in 0..1 and their labels [n] int64."""

    images: Array
    labels: Array


def load() -> tuple[Digits, Digits]:
    """The data set that ships with scikit-learn, cut into training and held-out digits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))  # they come sorted by writer
    images = (data.images[order] / 16).astype(np.float32)
    labels = data.target[order].astype(np.int64)
    return Digits(images[:1347], labels[:1347]), Digits(images[1347:], labels[1347:])


def train(digits: Digits, path: Path) -> None:
    """A small convolutional network, written to `path` as a SavedModel."""
    os.environ["KERAS_BACKEND"] = "tensorflow"  # read when Keras is imported
    import tensorflow as tf

    keras = tf.keras
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8), name="pixels"),
            keras.layers.Reshape((8, 8, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(digits.images, digits.labels, batch_size=32, epochs=12, verbose=0)
    model.export(str(path), verbose=False)


def train_in_child(path: Path, log: Path) -> None:
    """`train` in a process of its own: TensorFlow's memory and its messages stay there."""
    with log.open("wb") as output:
        command = [sys.executable, __file__, "--train", str(path)]
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
    if code != 0:
        raise RuntimeError(f"training failed; {log} says:\n{log.read_text()}")


def jaxrt(*arguments: str) -> list[str]:
    """The command line of the jaxrt installed beside this Python."""
    return [str(Path(sys.executable).parent / "jaxrt"), *arguments]


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def run(*arguments: str) -> None:
    say("jaxrt " + " ".join(arguments))
    subprocess.run(jaxrt(*arguments), check=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_ready(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return once /readyz answers 200; RuntimeError when the server ends or takes too long."""
    until = time.monotonic() + READY_WITHIN
    while time.monotonic() < until and server.poll() is None:
        try:
            with OPEN(f"{url}/readyz", timeout=5):
                return
        except OSError:  # refused, or 503 (urllib's HTTPError is an OSError too)
            time.sleep(0.05)
    raise RuntimeError(f"jaxrt serve did not become ready; {log} says:\n{log.read_text()}")


def predict(url: str, images: Array) -> Array:
    """Class probabilities [n, 10] of images [n, 8, 8], over HTTP."""
    body = json.dumps({"instances": images.tolist()}).encode()
    request = urllib.request.Request(f"{url}/v1/models/digits:predict", data=body)
    with OPEN(request, timeout=30) as response:
        return np.array(json.load(response)["predictions"], np.float32)


def table(probabilities: Array, labels: Array) -> str:
    """One line per row: the truth, the answer, and how sure the model is of it."""
    lines = ["    image  truth  answer    sure"]
    for i, (row, truth) in enumerate(zip(probabilities, labels, strict=True)):
        answer = int(row.argmax())
        mark = "" if answer == truth else "  <- wrong"
        lines.append(f"    {i:5d}  {truth:5d}  {answer:6d}  {row[answer]:6.1%}{mark}")
    return "\n".join(lines)


def accuracy(probabilities: Array, labels: Array) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def serve_and_ask(artifact: Path, digits: Digits, log: Path) -> float:
    """Serve the artifact, ask it for all digits, stop it; returns the accuracy."""
    port = free_port()
    arguments = ("serve", str(artifact), "--rest_api_port", str(port))
    say("jaxrt " + " ".join(arguments))
    url, start = f"http://127.0.0.1:{port}", time.monotonic()
    with log.open("wb") as output:
        server = subprocess.Popen(jaxrt(*arguments), stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_ready(url, server, log)
        print(f"    ready in {time.monotonic() - start:.1f} s", flush=True)
        start = time.monotonic()
        probabilities = predict(url, digits.images)
        took = time.monotonic() - start
        say(f"POST /v1/models/digits:predict, {len(digits.images)} images: {took * 1e3:.0f} ms")
        print(table(probabilities[:10], digits.labels[:10]))
        server.send_signal(signal.SIGTERM)
        code = server.wait(STOP_WITHIN)
    finally:
        server.kill()
        server.wait()
    if code != 0:
        raise RuntimeError(f"jaxrt serve exited with {code}, not 0; {log} says:\n{log.read_text()}")
    say("stopped with SIGTERM: exit code 0")
    return accuracy(probabilities, digits.labels)


def main(arguments: Sequence[str]) -> int:
    training, held_out = load()
    if arguments[:1] == ["--train"]:
        train(training, Path(arguments[1]))
        return 0
    directory = Path(arguments[0] if arguments else "demo")
    directory.mkdir(parents=True, exist_ok=True)
    say(f"training a small convolutional network on {len(training.images)} digits")
    start = time.monotonic()
    train_in_child(directory / "digits", directory / "train.log")
    print(f"    {time.monotonic() - start:.1f} s, written to {directory / 'digits'}", flush=True)
    artifact = directory / "digits.jaxrt"
    run("compile", str(directory / "digits"), "--batch-sizes", "1,8,64", "-o", str(artifact))
    found = serve_and_ask(artifact, held_out, directory / "serve.log")
    print(f"    right: {found:.1%} of {len(held_out.images)} digits it never saw", flush=True)
    return 0 if found >= WANTED_ACCURACY else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
