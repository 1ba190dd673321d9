"""Replacing a directory while writers are killed: at random moments, and at every step."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxrt.artifact import ArtifactWriter, open_artifact
from jaxrt.manifest import Manifest, Source, TargetRecord
from jaxrt.staging import exchange_directories, publish, restore, staged, sweep

# Imported by the children below, so the artifacts they write are the ones checked here.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from jaxrt.artifact import ArtifactWriter, open_artifact
from jaxrt.manifest import Manifest, Source, TargetRecord

def write(path, number, **options):
    with ArtifactWriter(path, **options) as writer:
        writer.weights({f"w{i}": np.full(250_000, number, np.float32) for i in range(3)})
        writer.report({"number": number})
        writer.commit(Manifest(
            jaxrt="0", model=str(number), tools={}, options={}, signatures={},
            source=Source(path="m", sha256="0" * 64, tags=()),
            target=TargetRecord(platform="cpu", device_kind="cpu", fingerprint={})))
"""

FOREVER = f"""{WRITER}
print("ready", flush=True)
for number in range(1, 1_000_000):
    write(Path(sys.argv[1]), number)
"""

# Kills a fork of itself at its first, second, third ... system event until one comes through.
STEPWISE = f"""{WRITER}
import json, os, shutil, signal
path, exchange = Path(sys.argv[1]), eval(sys.argv[2])
EVENTS = {{"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir",
          "os.truncate", "shutil.rmtree", "fcntl.flock", "ctypes.call_function"}}

def kill_at(step):
    left = [step]
    def hook(event, args):
        if event in EVENTS:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

def number():
    with open_artifact(path) as artifact:
        found = {{float(a[0]) for a in artifact.weights.values()}} | {{artifact.report()["number"]}}
        (only,) = found
        return only

write(path, 0, exchange=exchange)
log, step, killed = [], 0, True
while killed:
    step += 1
    before = number()
    child = os.fork()
    if child == 0:
        kill_at(step)
        write(path, step, exchange=exchange)
        os._exit(0)
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = sorted(os.listdir(path.parent))
    after = number()
    write(path, -step, exchange=exchange)
    clean = sorted(os.listdir(path.parent))
    log.append([killed, before, step, after, left, number(), clean])
print(json.dumps(log))
"""


def write(path: Path, number: int) -> None:
    with ArtifactWriter(path) as writer:
        writer.weights({"w": np.full(10, number, np.float32)})
        writer.commit(
            Manifest(
                jaxrt="0",
                model=str(number),
                tools={},
                options={},
                signatures={},
                source=Source(path="m", sha256="0" * 64, tags=()),
                target=TargetRecord(platform="cpu", device_kind="cpu", fingerprint={}),
            )
        )


def test_a_writer_killed_at_random_moments_leaves_a_whole_artifact_and_no_debris(
    tmp_path: Path,
) -> None:
    path = tmp_path / "art"
    write(path, 0)
    rng = random.Random(0)
    replaced = 0
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", FOREVER, str(path)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.0, 0.15))
            child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
        with open_artifact(path) as artifact:
            replaced += artifact.manifest.model != "0"
            values = {float(a.flat[0]) for a in artifact.weights.values()}
            assert values == {float(artifact.manifest.model)}
        write(path, 0)
        assert open_artifact(path).manifest.model == "0"
        assert os.listdir(tmp_path) == ["art"]
    assert replaced


@pytest.mark.parametrize(
    "exchange",
    [pytest.param("None", id="swap"), pytest.param("lambda *_: False", id="two renames")],
)
def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new_one(
    tmp_path: Path, exchange: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEPWISE, str(tmp_path / "art"), exchange],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    log = json.loads(done.stdout)
    assert len(log) > 20
    assert [killed for killed, *_ in log] == [True] * (len(log) - 1) + [False]
    for _, before, step, after, _, rewritten, clean in log:
        assert after in (before, step)
        assert rewritten == -step
        assert clean == ["art"]
    afters = [(after == step) for _, _, step, after, *_ in log]
    assert afters == sorted(afters)  # once the move is made, it stays made
    lefts = [left for _, _, _, _, left, *_ in log]
    assert any(len(left) > 1 for left in lefts)
    if exchange != "None":
        assert any("art" not in left for left in lefts)  # killed between the two renames


def test_the_directory_of_a_living_writer_is_not_swept(tmp_path: Path) -> None:
    with staged(tmp_path / "a") as path:
        (path / "x").write_text("x")
        sweep(tmp_path / "a")
        assert (path / "x").read_text() == "x"
    assert os.listdir(tmp_path) == []


def test_only_leftovers_of_the_same_name_are_swept(tmp_path: Path) -> None:
    gone = ".a.0123456789abcdef.partial"
    kept = [
        ".ab.0123456789abcdef.partial",
        ".a.b.0123456789abcdef.partial",
        ".a.0123.partial",
        ".a.partial",
        "a.0123456789abcdef.partial",
        ".a.0123456789abcdef.partial.bak",
    ]
    for name in (gone, *kept):
        (tmp_path / name / "sub").mkdir(parents=True)
    (tmp_path / ".a.aaaaaaaaaaaaaaaa.partial").write_text("a file of somebody's")
    sweep(tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, ".a.aaaaaaaaaaaaaaaa.partial"])


def test_what_was_moved_aside_comes_back_unless_it_was_replaced(tmp_path: Path) -> None:
    aside = tmp_path / ".a.0123456789abcdef.old"
    (aside / "old").mkdir(parents=True)
    assert restore(tmp_path / "a") == []
    assert os.listdir(tmp_path) == ["a"]
    (aside / "older").mkdir(parents=True)
    assert restore(tmp_path / "a") == [aside]
    sweep(tmp_path / "a")
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(tmp_path / "a") == ["old"]


def test_an_artifact_moved_aside_is_found_by_a_reader(tmp_path: Path) -> None:
    write(tmp_path / "a", 3)
    os.rename(tmp_path / "a", tmp_path / ".a.0123456789abcdef.old")
    assert open_artifact(tmp_path / "a").manifest.model == "3"


def test_sweeping_where_there_is_no_parent_does_nothing(tmp_path: Path) -> None:
    sweep(tmp_path / "no" / "a")
    assert os.listdir(tmp_path) == []


def test_exchange_swaps_or_says_why_not(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name / f"was {name}").mkdir(parents=True)
    assert exchange_directories(tmp_path / "a", tmp_path / "b") == (sys.platform == "linux")
    assert os.listdir(tmp_path / "a") == ["was b" if sys.platform == "linux" else "was a"]
    if sys.platform == "linux":
        with pytest.raises(FileNotFoundError):
            exchange_directories(tmp_path / "a", tmp_path / "none")


def test_publish_starts_again_when_another_writer_is_faster(tmp_path: Path) -> None:
    """The old one vanishes between the failed rename and the exchange."""
    destination = tmp_path / "a"
    (destination / "old").mkdir(parents=True)
    calls = []

    def vanishing(one: Path, other: Path) -> bool:
        calls.append(one)
        os.rename(destination, tmp_path / "elsewhere")
        return exchange_directories(one, other) if sys.platform == "linux" else False

    with staged(destination) as path:
        (path / "new").write_text("")
        publish(path, destination, exchange=vanishing)
    assert len(calls) == 1
    assert os.listdir(destination) == ["new"]
    assert sorted(os.listdir(tmp_path)) == ["a", "elsewhere"]


def test_errors_of_the_filesystem_pass_through(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with staged(tmp_path / "a") as path, pytest.raises(NotADirectoryError):
        publish(path, tmp_path / "a")
    assert (tmp_path / "a").read_text() == "a file"
    assert os.listdir(tmp_path) == ["a"]
