import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaxrt.artifact import ArtifactWriter, open_artifact
from jaxrt.errors import ArtifactError
from jaxrt.manifest import Manifest, Source, TargetRecord
from jaxrt.store import Store, entry_key

KEYS = [f"{i:x}" * 64 for i in range(4)]


def build(path: Path, *, size: int = 1000) -> None:
    with ArtifactWriter(path) as writer:
        writer.portable("f", b"x" * size)
        writer.commit(
            Manifest(
                jaxrt="0",
                model="m",
                tools={},
                options={},
                signatures={},
                source=Source(path="m", sha256="0" * 64, tags=()),
                target=TargetRecord(platform="cpu", device_kind="cpu", fingerprint={}),
            )
        )


def never(path: Path) -> None:
    raise AssertionError(f"{path} was built")


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Store:
    return Store(tmp_path / "cache" / "jaxrt", clock=clock)


PARTS: dict[str, Any] = {
    "content": "0" * 64,
    "options": {"batch_sizes": [1, 8]},
    "fingerprint": {"hash": "abc"},
    "versions": {"jaxrt": "0.1.0", "jaxlib": "0.12.0"},
}


def test_a_key_is_the_same_for_the_same_parts_in_any_order() -> None:
    turned = PARTS | {"versions": dict(reversed(PARTS["versions"].items()))}
    assert entry_key(**PARTS) == entry_key(**turned)


@pytest.mark.parametrize(
    "change",
    [
        {"content": "1" * 64},
        {"options": {"batch_sizes": [1, 4]}},
        {"fingerprint": {"hash": "abd"}},
        {"versions": {"jaxrt": "0.1.1", "jaxlib": "0.12.0"}},
        {"versions": {"jaxrt": "0.1.0", "jaxlib": "0.10.2"}},
        {"versions": {"jaxrt": "0.1.0", "jaxlib": "0.12.0", "tensorflow": "2.21"}},
    ],
)
def test_every_part_changes_the_key(change: dict[str, Any]) -> None:
    assert entry_key(**PARTS | change) != entry_key(**PARTS)


def test_a_key_without_versions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"want \['jaxlib'\] too"):
        entry_key(**PARTS | {"versions": {"jaxrt": "0.1.0"}})


def test_an_entry_is_built_once_and_then_found(store: Store) -> None:
    path = store.get_or_build(KEYS[1], build)
    assert open_artifact(path).portable is not None
    assert store.get_or_build(KEYS[1], never) == path
    assert sorted(os.listdir(store.root)) == [KEYS[1], f"{KEYS[1]}.lock"]


@pytest.mark.parametrize("key", ["", "abc", "../" + "0" * 61, "0" * 63 + "G", "0" * 65])
def test_what_is_not_a_key_is_refused(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="want what entry_key gives"):
        store.get_or_build(key, never)


def flip(path: Path) -> None:
    (path / "programs" / "f.jaxexport").write_bytes(b"y" * 1000)


def cut_manifest(path: Path) -> None:
    (path / "manifest.json").write_bytes(b"")


def make_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


def make_link(path: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to("nowhere")


@pytest.mark.parametrize("damage", [flip, cut_manifest, make_file, make_link])
def test_a_damaged_entry_is_built_again_and_said_so(
    store: Store, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = store.get_or_build(KEYS[1], build)
    damage(path)
    with caplog.at_level(logging.WARNING, "jaxrt.store"):
        assert store.get_or_build(KEYS[1], build) == path
    assert "compiling it again" in caplog.text
    open_artifact(path).close()
    assert not path.is_symlink()


def test_what_build_raises_passes_through_and_the_next_one_builds(store: Store) -> None:
    def fail(path: Path) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.get_or_build(KEYS[1], fail)
    with pytest.raises(ArtifactError, match="nothing there"):
        store.get_or_build(KEYS[1], lambda path: None)
    store.get_or_build(KEYS[1], build)


def test_of_many_threads_one_builds_a_key_and_the_others_wait(store: Store) -> None:
    built: list[Path] = []

    def slow(path: Path) -> None:
        built.append(path)
        build(path)

    threads = [threading.Thread(target=store.get_or_build, args=(KEYS[1], slow)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [store.root / KEYS[1]]


PROCESS = """
import logging, sys
from pathlib import Path
from jaxrt.artifact import ArtifactWriter
from jaxrt.manifest import Manifest, Source, TargetRecord
from jaxrt.store import Store

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")

def build(path):
    with ArtifactWriter(path) as writer:
        writer.portable("f", b"half")
        print("building", flush=True)
        sys.stdin.readline()
        writer.commit(Manifest(
            jaxrt="0", model="m", tools={}, options={}, signatures={},
            source=Source(path="m", sha256="0" * 64, tags=()),
            target=TargetRecord(platform="cpu", device_kind="cpu", fingerprint={})))

print("at", Store(Path(sys.argv[1])).get_or_build(sys.argv[2], build), flush=True)
"""


def start(store: Store) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(store.root), KEYS[1]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_two_processes_one_builds_and_the_other_waits_and_takes_it(store: Store) -> None:
    with start(store) as first:
        assert line(first) == "building"
        with start(store) as second:
            assert line(second) == f"{KEYS[1]}: another process compiles it; waiting"
            first.communicate("go\n")
            assert line(second) == f"at {store.root / KEYS[1]}"
    assert (first.returncode, second.returncode) == (0, 0)


def test_a_builder_that_is_killed_lets_the_waiting_one_build(store: Store) -> None:
    with start(store) as first:
        assert line(first) == "building"
        with start(store) as second:
            assert line(second) == f"{KEYS[1]}: another process compiles it; waiting"
            first.send_signal(signal.SIGKILL)
            assert line(second) == "building"
            second.communicate("go\n")
    assert second.returncode == 0
    store.get_or_build(KEYS[1], never)
    assert sorted(os.listdir(store.root)) == [KEYS[1], f"{KEYS[1]}.lock"]


def test_prune_removes_the_longest_unused_until_the_rest_fits(store: Store, clock: Clock) -> None:
    paths = []
    for key in KEYS:
        paths.append(store.get_or_build(key, lambda path: build(path, size=100_000)))
        clock.now += 10
    store.get_or_build(KEYS[0], never)
    clock.now += 1000
    assert store.prune(500_000) == []
    assert store.prune(250_000) == [paths[1], paths[2]]
    assert [path.exists() for path in paths] == [True, False, False, True]
    assert store.prune(0) == [paths[3], paths[0]]
    assert os.listdir(store.root) == []
    store.get_or_build(KEYS[0], build)


def test_prune_keeps_what_was_just_used(store: Store, clock: Clock) -> None:
    path = store.get_or_build(KEYS[0], build)
    clock.now += 599
    assert store.prune(0) == []
    assert store.prune(0, idle_seconds=500) == [path]


def test_prune_of_no_cache_at_all_does_nothing(store: Store) -> None:
    assert store.prune(0) == []
    assert not store.root.exists()


def test_prune_leaves_a_builder_alone_and_clears_after_a_killed_one(store: Store) -> None:
    with start(store) as first:
        assert line(first) == "building"
        assert store.prune(0, idle_seconds=-1e12) == []
        assert len(os.listdir(store.root)) == 2
        first.kill()
        first.wait()
        assert store.prune(0, idle_seconds=-1e12) == []
    assert os.listdir(store.root) == []


def test_prune_leaves_files_of_others_alone(store: Store) -> None:
    store.root.mkdir(parents=True)
    for name in ("README", "models", f"x{KEYS[0]}"):
        (store.root / name).write_text("")
    assert store.prune(0, idle_seconds=-1e12) == []
    assert len(os.listdir(store.root)) == 3
