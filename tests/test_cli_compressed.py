"""Compressed models as their users have them: compiled, verified, served and reloaded."""

import re
import threading
from pathlib import Path

import numpy as np
import pytest
import wide_models
from endtoend import Server, one_line, run, run_here, signed
from safetensors.numpy import load_file

from jaxrt.artifact import WEIGHTS, open_artifact
from jaxrt.manifest import Manifest
from jaxrt.weights import write_weights

SMALL = ("--compress", "int8", "--optimize", "size")
QUICK = ("--autotune", "off", "--batch-sizes", "1,4")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel in `model/1`, requests in `data.npz`, and `model.jaxrt` in int8."""
    found = tmp_path_factory.mktemp("compressed")
    wide_models.build(found / "model" / "1")
    x = np.random.default_rng(1).normal(size=(32, 64)).astype(np.float32)
    np.savez(found / "data.npz", x=x)
    done = run(
        *("compile", "model", "-o", "model.jaxrt", *SMALL, *QUICK, "--calibration", "data.npz"),
        *("--compress-rule", "kernal=float"),
        home=found,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Compression: 2 of 2 layers (int8 ×2); weights 32.8 kB →" in done.stdout
    assert "Against TensorFlow, calibration data" in done.stdout
    assert "ok; compressed: allowed" in done.stdout and "MADE-UP" not in done.stdout
    assert "rule 'kernal': no layer has it in its name; near: " in done.stdout
    return found


def test_verify_holds_compressed_programs_to_what_was_recorded(home: Path) -> None:
    done = run("verify", "model.jaxrt", "--against", "model", home=home)
    assert (done.returncode, done.stderr) == (0, "")
    allowed, found = re.findall(r"allowed ([\d.]+) % RMS, found ([\d.]+) %", done.stdout)[-1]
    assert 0 < float(found) < float(allowed) < 5


def doubled(manifest: Manifest, home: Path) -> Manifest:
    """The scale of one channel of one layer is twice what it was."""
    (path,) = home.glob(f".changed.jaxrt.*/{WEIGHTS}")
    arrays = load_file(path)
    name = next(n for n, a in arrays.items() if a.dtype == np.float32 and a.size == 64)
    arrays[name] = arrays[name].copy()
    arrays[name].reshape(-1)[3] *= 2
    path.unlink()
    write_weights(path, arrays)
    return manifest


def test_verify_fails_where_a_scale_or_a_byte_was_changed(home: Path, tmp_path: Path) -> None:
    other = signed(home / "model.jaxrt", tmp_path, lambda manifest: doubled(manifest, tmp_path))
    done = run("verify", other, "--against", home / "model", home=tmp_path)
    assert "past the tolerance; compressed: allowed" in one_line(done, 1)
    with (other / WEIGHTS).open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    done = run("verify", other, "--against", home / "model", home=tmp_path)
    assert "SHA-256" in one_line(done, 5)


def test_a_saved_model_is_compressed_once_and_the_log_says_what_that_did(
    home: Path, tmp_path: Path
) -> None:
    flags = (*SMALL, *QUICK, "--port", "0")
    with Server(home / "model", *flags, home=tmp_path) as server:
        log = server.log
        status, answer = server.predict("model", {"x": np.ones((3, 64))})
        assert status == 200 and np.shape(answer) == (3, 64)
    assert ": compiling " in log
    said = (
        r"model version 1: compressed: 2 of 2 layers \(int8 ×2\); weights .* worst error [\d.]+ %"
    )
    assert re.search(said + " RMS .*, on made-up inputs, 64 rows", log)
    assert "NOBODY BROUGHT CALIBRATION DATA" in log
    with Server(home / "model", *flags, home=tmp_path) as server:
        again = server.log
    assert ": compiling " not in again and re.search(said, again)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--max-error", "1%"), "--max-error: nothing is compressed; add --compress auto or int8"),
        (("--compress", "int8", "--calibration", "no.npz"), "--calibration no.npz: no such file"),
        (("--compress-rule", "a=int5"), "compression rule 'a=int5': want PATTERN=SCHEME"),
        (("--compress", "int8", "--max-error", "2"), "--max-error '2': want a share"),
        (("--compress", "fp8"), "--compress fp8: cpu has no fp8 matrix units; take int8"),
    ],
)
def test_wrong_flags_are_said_in_a_line_before_tensorflow_starts(
    flags: tuple[str, ...], said: str, home: Path, tmp_path: Path
) -> None:
    done = run_here("compile", home / "model", *flags, *QUICK, "-o", tmp_path / "new.jaxrt")
    assert said in done.stderr.splitlines()[-1] and done.returncode == 2
    assert not any(tmp_path.iterdir())


def test_a_server_refuses_wrong_flags_before_it_reads_a_model(home: Path, tmp_path: Path) -> None:
    done = run("serve", home / "model", "--max-error", "1%", "--port", "0", home=tmp_path)
    assert "--max-error: nothing is compressed" in one_line(done, 2)


def resident(server: Server) -> int:
    """Bytes of the process that are in memory."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return 1024 * int(found[1])


@pytest.mark.slow
def test_resident_memory_follows_the_compression(tmp_path: Path) -> None:
    """100 MB of weights: what each server holds beside one of a tiny model."""
    wide_models.build(tmp_path / "wide", width=1792, layers=8)
    wide_models.build(tmp_path / "tiny")
    held, stored = {}, {}
    for name, model, flags in (
        ("tiny", "tiny", ()),
        ("float", "wide", ()),
        ("int8", "wide", SMALL),
        ("int4", "wide", ("--compress", "int4", "--optimize", "size")),
    ):
        done = run(
            *("compile", model, "-o", f"{name}.jaxrt", *flags, *QUICK, "--no-fallback"),
            home=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        stored[name] = (tmp_path / f"{name}.jaxrt" / WEIGHTS).stat().st_size
        with Server(f"{name}.jaxrt", "--port", "0", home=tmp_path) as server:
            width = 64 if name == "tiny" else 1792
            for rows in (1, 4):
                assert server.predict(name, {"x": np.ones((rows, width))})[0] == 200
            held[name] = resident(server)
    weighs = 4 * 8 * 1792**2
    assert stored["float"] > 0.99 * weighs
    assert stored["int8"] <= 0.27 * stored["float"] and stored["int4"] <= 0.16 * stored["float"]
    above = {name: bytes_ - held["tiny"] for name, bytes_ in held.items()}
    assert above["float"] > 0.9 * weighs, above
    assert above["int8"] <= 0.35 * above["float"] and above["int4"] <= 0.2 * above["float"], above
    # A float copy, made at load or by a call, would be 103 MB more.
    assert above["int8"] <= 0.5 * weighs and above["int4"] <= 0.4 * weighs, above


@pytest.mark.slow
def test_a_new_version_is_compressed_while_requests_flow(home: Path, tmp_path: Path) -> None:
    wide_models.build(tmp_path / "model" / "1")
    wide_models.build(tmp_path / "second", seed=7)
    flags = ("--model_name", "model", "--model_base_path", str(tmp_path / "model"))
    poll = ("--file_system_poll_wait_seconds", "1", "--port", "0")
    answers: list[int] = []
    done = threading.Event()
    with Server(*flags, *SMALL, *QUICK, *poll, home=tmp_path) as server:

        def ask() -> None:
            while not done.wait(0.01):
                answers.append(server.predict("model", {"x": np.ones((1, 64))})[0])

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            (tmp_path / "second").rename(tmp_path / "model" / "2")
            server.wait_for(r"model version 2: compressed: 2 of 2 layers")
        finally:
            done.set()
            asking.join()
    assert len(answers) > 20 and set(answers) == {200}


def test_an_artifact_shows_every_layer(home: Path) -> None:
    done = run("inspect", "model.jaxrt", "--plot", "size.svg", home=home)
    assert done.returncode == 0 and ">taken: " in (home / "size.svg").read_text()
    with open_artifact(home / "model.jaxrt") as artifact:
        names = [layer["layer"] for layer in artifact.report()["compression"]["layers"]]
    shown = run("inspect", "model.jaxrt", home=home).stdout
    assert len(names) == 2 and all(name in shown for name in names)
