"""Copies of remote directories: whole, of one state, checked, made once."""

import concurrent.futures
import contextlib
import json
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from jaxrt import remote
from jaxrt.errors import ModelError, UsageError
from jaxrt.remote import Remote
from jaxrt.serving.engine.remotestorage import AnyStorage

FILES = {"manifest.json": b"{}", "programs/one": b"1" * 100_000, "programs/deep/two": b""}


class Steps:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.copied: list[str] = []
        self.titles: list[str] = []

    @contextlib.contextmanager
    def bar(self, title: str) -> Iterator["Steps"]:
        self.titles.append(title)
        yield self

    def total(self, steps: int) -> None:
        pass

    def step(self, text: str) -> None:
        self.copied.append(text)


@pytest.fixture
def fs() -> MemoryFileSystem:
    return MemoryFileSystem()


@pytest.fixture
def uri(fs: MemoryFileSystem) -> str:
    """A directory of FILES."""
    root = f"/{uuid.uuid4().hex}/model/1"
    put(fs, root, FILES)
    return f"memory:/{root}"


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def copies(tmp_path: Path, steps: Steps) -> Remote:
    return Remote(tmp_path / "cache", progress=steps.bar)


def put(fs: MemoryFileSystem, root: str, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        fs.pipe_file(f"{root}/{name}", content)


def path_of(uri: str) -> str:
    return uri.removeprefix("memory:/")


def content(directory: Path) -> dict[str, bytes]:
    found = (file for file in directory.rglob("*") if file.is_file())
    return {file.relative_to(directory).as_posix(): file.read_bytes() for file in found}


def test_a_directory_is_copied_whole_and_once(copies: Remote, uri: str, steps: Steps) -> None:
    directory = copies.fetch(uri)
    assert content(directory) == FILES
    assert copies.fetch(uri) == directory
    assert sorted(steps.copied) == sorted(FILES)
    assert steps.titles == ["copy 1"]


def test_files_that_changed_give_another_copy(
    copies: Remote, uri: str, fs: MemoryFileSystem
) -> None:
    before = copies.fetch(uri)
    put(fs, path_of(uri), {"manifest.json": b"[]"})
    after = copies.fetch(uri)
    assert after != before
    assert content(after) == FILES | {"manifest.json": b"[]"}
    assert content(before) == FILES


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"?")])
def test_a_copy_that_was_altered_is_made_again(
    copies: Remote, uri: str, name: str, damage: Callable[[Path], Any]
) -> None:
    damage(copies.fetch(uri) / name)
    assert content(copies.fetch(uri)) == FILES


def test_a_copy_without_its_receipt_is_made_again(copies: Remote, uri: str, steps: Steps) -> None:
    directory = copies.fetch(uri)
    receipt = directory.with_name(f"{directory.name}.json")
    assert json.loads(receipt.read_text()).keys() == FILES.keys()
    receipt.write_text("{")
    copies.fetch(uri)
    assert len(steps.copied) == 2 * len(FILES)


def test_a_copy_that_broke_off_leaves_nothing_to_be_used(
    copies: Remote, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MemoryFileSystem.get_file

    def breaks(self: Any, source: str, target: str, **more: Any) -> None:
        if source.endswith("two"):
            raise ConnectionResetError("reset by peer")
        whole(self, source, target, **more)

    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "get_file", breaks)
        with pytest.raises(ModelError, match="cannot be read: ConnectionResetError: reset by peer"):
            copies.fetch(uri)
    assert [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []
    assert content(copies.fetch(uri)) == FILES


def test_a_file_that_arrives_short_is_refused(
    copies: Remote, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(self: Any, source: str, target: str, **more: Any) -> None:
        Path(target).write_bytes(b"1")

    monkeypatch.setattr(MemoryFileSystem, "get_file", short)
    with pytest.raises(ModelError, match=r"1 bytes arrived, want \d+"):
        copies.fetch(uri)


def test_a_directory_that_changes_meanwhile_is_refused(
    copies: Remote, uri: str, fs: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MemoryFileSystem.get_file

    def changes(self: Any, source: str, target: str, **more: Any) -> None:
        whole(self, source, target, **more)
        put(fs, path_of(uri), {"late": b""})

    monkeypatch.setattr(MemoryFileSystem, "get_file", changes)
    with pytest.raises(ModelError, match="its files changed while they were copied"):
        copies.fetch(uri)


def test_of_several_that_want_a_directory_one_copies(
    copies: Remote, uri: str, steps: Steps
) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = set(pool.map(copies.fetch, [uri] * 4))
    assert len(found) == 1
    assert len(steps.copied) == len(FILES)


def test_a_checksum_that_the_file_system_knows_is_compared(
    copies: Remote, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MemoryFileSystem.find

    def with_md5(self: Any, path: str, **more: Any) -> Any:
        found = whole(self, path, **more)
        return {
            name: {**info, "md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg=="} for name, info in found.items()
        }

    monkeypatch.setattr(MemoryFileSystem, "find", with_md5)  # the MD5 of nothing
    with pytest.raises(ModelError, match="what arrived does not have its MD5"):
        copies.fetch(uri)


def test_names_that_lead_out_of_the_directory_are_refused(
    copies: Remote, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(self: Any, path: str, **more: Any) -> Any:
        return {f"{path}/../../passwd": {"size": 1, "type": "file"}}

    monkeypatch.setattr(MemoryFileSystem, "find", find)
    with pytest.raises(ModelError, match="a name that is no path below the directory"):
        copies.fetch(uri)


def test_an_empty_directory_is_no_model(copies: Remote) -> None:
    with pytest.raises(ModelError, match="memory://nowhere/1: found nothing there"):
        copies.fetch("memory://nowhere/1")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError("Access Denied"), "may not be read .* want credentials"),
        (type("NoCredentialsError", (Exception,), {})("no"), "may not be read"),
        (OSError("[Errno 403] Forbidden"), "may not be read"),
        (FileNotFoundError("The specified bucket does not exist"), "nothing is there .*bucket"),
        (TimeoutError(), "cannot be read: TimeoutError$"),
    ],
)
def test_errors_of_file_systems_say_what_to_do(
    uri: str, error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Any, path: str, **more: Any) -> Any:
        raise error

    monkeypatch.setattr(MemoryFileSystem, "ls", fails)
    with pytest.raises(ModelError, match=said):
        remote.directories(uri)


@pytest.mark.parametrize(("scheme", "extra"), [("gs", "gcs"), ("s3", "s3")])
def test_a_missing_extra_is_named(scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = vars(sys.modules["fsspec.registry"])["_registry"]
    for name in ("gs", "gcs", "s3"):  # what was imported before is found again
        monkeypatch.delitem(known, name, raising=False)
    for package in ("gcsfs", "s3fs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf'pip install "jaxrt\[{extra}\]"'):
        remote.check(f"{scheme}://bucket/model")


@pytest.mark.parametrize(
    ("path", "far"),
    [
        ("gs://bucket/m", True),
        ("S3://bucket/m", True),
        ("memory://m", True),
        ("file:///models/m", False),
        ("/models/m", False),
        ("models/m", False),
        ("C:/models", False),
    ],
)
def test_uris_of_other_machines_are_remote(path: str, far: bool) -> None:
    assert remote.is_remote(path) is far


def test_text_is_read(uri: str) -> None:
    assert remote.read_text(f"{uri}/manifest.json") == "{}"


def test_versions_are_the_numbered_directories_highest_first(
    copies: Remote, fs: MemoryFileSystem
) -> None:
    root = f"/{uuid.uuid4().hex}/model"
    for name in ("1", "01", "00000123", "notes", "2"):
        put(fs, f"{root}/{name}", {"manifest.json": b"{}"})
    put(fs, root, {"3": b"a file"})
    base = f"memory:/{root}"
    found = AnyStorage(copies).versions(base)
    assert list(found.items()) == [
        (123, f"{base}/00000123"),
        (2, f"{base}/2"),
        (1, f"{base}/1"),
    ]


def test_a_version_looks_other_when_a_file_comes(
    copies: Remote, uri: str, fs: MemoryFileSystem
) -> None:
    storage = AnyStorage(copies)
    before = storage.look(uri)
    assert storage.look(uri) == before
    put(fs, path_of(uri), {"late": b""})
    assert storage.look(uri) != before


@pytest.mark.parametrize(("seconds", "written"), [(0.5, True), (2.0, False), (-60.0, False)])
def test_a_version_is_being_written_while_its_newest_file_is_young(
    copies: Remote, uri: str, seconds: float, written: bool
) -> None:
    newest = max(file.modified for file in remote.files(uri))
    assert newest > 1.6e9
    storage = AnyStorage(copies, clock=lambda: newest + seconds)
    assert storage.written(uri) is written


def test_directories_of_this_machine_stay_where_they_are(copies: Remote, tmp_path: Path) -> None:
    (tmp_path / "m" / "4").mkdir(parents=True)
    storage = AnyStorage(copies)
    for base in (str(tmp_path / "m"), f"file://{tmp_path}/m"):
        assert storage.versions(base) == {4: str(tmp_path / "m" / "4")}
    assert storage.fetch(str(tmp_path / "m" / "4")) == tmp_path / "m" / "4"
