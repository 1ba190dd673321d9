import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxrt.artifact import Artifact, ArtifactWriter, open_artifact
from jaxrt.digest import json_sha256
from jaxrt.errors import ArtifactError, UsageError
from jaxrt.manifest import (
    FORMAT_VERSION,
    ExecutableEntry,
    Manifest,
    ProgramEntry,
    SignatureEntry,
    Source,
    TargetRecord,
)
from jaxrt.specs import SignatureSpec

WEIGHTS: dict[str, np.ndarray[Any, Any]] = {
    "w": np.arange(600, dtype=np.float32),
    "b": np.array(2, np.int64),
}
FILES = {
    "weights.safetensors",
    "report.json",
    "programs/f-1.jaxexport",
    "programs/f-2.jaxexport",
    "executables/f-1.pjrt",
    "host/vocab/words.txt",
}


def program(key: str, **fields: Any) -> ProgramEntry:
    return ProgramEntry(
        key=key,
        input_names=(),
        input_shapes={},
        input_dtypes={},
        output_names=(),
        output_shapes={},
        output_dtypes={},
        rows="dependent",
        rows_reason="a mean over the batch",
        random=False,
        **{"weights": ("w",), "portable": f"programs/{key}.jaxexport", **fields},
    )


def manifest(*programs: ProgramEntry, model: str = "m") -> Manifest:
    spec = SignatureSpec(inputs={}, outputs={})
    return Manifest(
        jaxrt="0.1.0",
        model=model,
        tools={"jax": jax.__version__},
        source=Source(path="m", sha256="0" * 64, tags=("serve",)),
        options={},
        target=TargetRecord(platform="cpu", device_kind="cpu", fingerprint={}),
        signatures={"f": SignatureEntry(spec=spec, programs=programs)},
    )


def write(path: Path, model: str = "m") -> Manifest:
    with ArtifactWriter(path) as writer:
        writer.weights(WEIGHTS)
        file = writer.executable("f-1", b"machine code")
        first = program(
            "f-1",
            portable=writer.portable("f-1", b"one"),
            executable=ExecutableEntry(file=file, key="fp"),
        )
        second = program("f-2", portable=writer.portable("f-2", b"two"), weights=("b", "w"))
        writer.file("host/vocab/words.txt").write_text("a\nb\n")
        writer.report({"model": model, "error": float("nan"), "errors": [1.5, float("-inf")]})
        return writer.commit(manifest(first, second, model=model))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "art")
    return tmp_path / "art"


def test_everything_written_is_read_back(path: Path) -> None:
    with open_artifact(path) as artifact:
        assert artifact.manifest.model == "m"
        assert artifact.manifest.files.keys() == FILES
        assert artifact.portable("f-1") == b"one"
        assert artifact.portable("f-2") == b"two"
        assert artifact.executable("f-1") == b"machine code"
        assert artifact.executable("f-2") is None
        assert artifact.report() == {"model": "m", "error": "NaN", "errors": [1.5, "-Infinity"]}
        assert artifact.file("host/vocab/words.txt").read_text() == "a\nb\n"
        assert list(artifact.weights) == ["w", "b"]
        for name, array in WEIGHTS.items():
            np.testing.assert_array_equal(artifact.weights[name], array, strict=True)
    assert os.listdir(path.parent) == ["art"]
    assert set(os.listdir(path)) == {"manifest.json", "host", "programs", "executables"} | {
        name for name in FILES if "/" not in name
    }


def test_commit_gives_the_manifest_that_open_gives(tmp_path: Path) -> None:
    written = write(tmp_path / "a")
    assert open_artifact(tmp_path / "a").manifest == written


def test_unknown_keys_and_files_are_key_errors(path: Path) -> None:
    artifact = open_artifact(path)
    unknown: list[Callable[[], object]] = [
        lambda: artifact.portable("x"),
        lambda: artifact.executable("x"),
        lambda: artifact.file("../x"),
    ]
    for call in unknown:
        with pytest.raises(KeyError):
            call()


def test_weights_can_be_streamed_and_nothing_at_all_written(tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "a") as writer:
        writer.stream_weights(
            {"w": jax.ShapeDtypeStruct((2,), np.float32)}, [("w", np.ones(2, np.float32))]
        )
        writer.commit(manifest())
    with ArtifactWriter(tmp_path / "b") as writer:
        writer.commit(manifest())
    assert open_artifact(tmp_path / "a").weights["w"].tolist() == [1, 1]
    assert dict(open_artifact(tmp_path / "b").weights) == {}
    assert open_artifact(tmp_path / "b").report() == {}


def test_files_are_readable_by_whom_the_umask_lets_read(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        write(tmp_path / "a")
    finally:
        os.umask(umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a" / "manifest.json").stat().st_mode & 0o777 == 0o644


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def append(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def link_away(file: Path) -> None:
    away = file.parents[len(file.parts) - 1 - file.parts.index("art")] / "away"
    shutil.move(file, away)
    file.symlink_to(away)


def make_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def make_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "tamper", [flip, truncate, append, Path.unlink, link_away, make_fifo, make_directory]
)
@pytest.mark.parametrize("name", sorted(FILES | {"manifest.json"}))
def test_any_tampering_is_an_error_that_names_the_file_and_the_remedy(
    path: Path, name: str, tamper: Callable[[Path], None]
) -> None:
    tamper(path / name)
    with pytest.raises(ArtifactError) as caught:
        open_artifact(path)
    message = str(caught.value)
    assert message.startswith(f"{path / name}: ")
    assert "recompile with `jaxrt compile`" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["extra", "programs/f-3.jaxexport", "host/.hidden", "new/file"])
def test_a_file_the_manifest_does_not_have_is_an_error_that_names_it(path: Path, name: str) -> None:
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_bytes(b"")
    with pytest.raises(ArtifactError, match=f"{path / name}: not in the manifest"):
        open_artifact(path)


def test_a_linked_folder_is_refused_though_its_files_are_right(path: Path, tmp_path: Path) -> None:
    shutil.move(path / "programs", tmp_path / "away")
    (path / "programs").symlink_to(tmp_path / "away")
    with pytest.raises(ArtifactError, match=f"{path / 'programs'}: a symbolic link"):
        open_artifact(path)


def test_the_artifact_itself_may_be_reached_through_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(path)
    assert open_artifact(tmp_path / "current").portable("f-1") == b"one"
    write(tmp_path / "current", model="new")
    assert (tmp_path / "current").is_symlink()
    assert open_artifact(path).manifest.model == "new"


def forge(path: Path, change: Callable[[Any], None]) -> None:
    """Edit the manifest and make its hash right again."""
    data = json.loads((path / "manifest.json").read_text())
    del data["manifest_sha256"]
    change(data)
    data["manifest_sha256"] = json_sha256(data)
    (path / "manifest.json").write_text(json.dumps(data))


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret", "host/../../secret"])
def test_a_forged_manifest_reaches_nothing_outside(path: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("x")
    forge(path, lambda data: data["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))
    with pytest.raises(ArtifactError, match="want a relative path inside the artifact"):
        open_artifact(path)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("portable", "programs/none.jaxexport", r"it names \['programs/none.jaxexport'\]"),
        ("weights", ["w", "nobody"], r"it names \['nobody'\], which are not there"),
        ("executable", {"file": "../../x", "key": "k"}, r"it names \['../../x'\]"),
    ],
)
def test_a_program_whose_files_or_weights_are_not_there_is_refused(
    path: Path, field: str, value: Any, said: str
) -> None:
    forge(path, lambda data: data["signatures"]["f"]["programs"][0].update({field: value}))
    with pytest.raises(ArtifactError, match=said):
        open_artifact(path)


def test_without_verify_contents_are_compared_when_they_are_read(path: Path) -> None:
    flip(path / "executables/f-1.pjrt")
    artifact = open_artifact(path, verify=False)
    assert artifact.portable("f-1") == b"one"
    with pytest.raises(ArtifactError, match=r"f-1.pjrt: SHA-256 .*, the manifest says"):
        artifact.executable("f-1")


def test_a_file_gone_after_opening_is_an_artifact_error(path: Path) -> None:
    artifact = open_artifact(path)
    shutil.rmtree(path)
    with pytest.raises(ArtifactError, match=r"f-1.jaxexport: cannot be read"):
        artifact.portable("f-1")
    np.testing.assert_array_equal(artifact.weights["w"], WEIGHTS["w"])


def test_an_unreadable_or_missing_artifact_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=f"{tmp_path / 'no'}: nothing there, want the directory"
    ):
        open_artifact(tmp_path / "no")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="file: a file, want the directory"):
        open_artifact(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="empty/manifest.json: missing, so this is no artifact"):
        open_artifact(tmp_path / "empty")


def test_an_older_or_newer_format_is_refused_with_both_versions(path: Path) -> None:
    for version in (FORMAT_VERSION - 1, FORMAT_VERSION + 1):

        def another(data: Any, version: int = version) -> None:
            data.update(format_version=version)

        forge(path, another)
        found = f"format version {version} .*, this jaxrt reads version {FORMAT_VERSION}"
        with pytest.raises(ArtifactError, match=found):
            open_artifact(path)


def test_writing_replaces_an_artifact_even_a_damaged_or_newer_one(path: Path) -> None:
    forge(path, lambda data: data.update(format_version=FORMAT_VERSION + 1))
    truncate(path / "manifest.json")
    write(path, model="new")
    assert open_artifact(path).manifest.model == "new"
    assert os.listdir(path.parent) == ["art"]


def test_an_open_artifact_keeps_its_weights_when_another_takes_its_place(path: Path) -> None:
    old = open_artifact(path)
    with ArtifactWriter(path) as writer:
        writer.weights({"w": np.zeros(600, np.float32)})
        writer.commit(manifest())
    np.testing.assert_array_equal(old.weights["w"], WEIGHTS["w"])
    with pytest.raises(ArtifactError):
        old.portable("f-1")


@pytest.mark.parametrize(
    "content", [{"a.txt": "x"}, {"manifest.json": "{}"}, {"manifest.json/x": ""}]
)
def test_what_is_not_an_artifact_is_never_replaced(tmp_path: Path, content: dict[str, str]) -> None:
    mine = tmp_path / "mine"
    for name, text in content.items():
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text(text)
    with pytest.raises(
        UsageError, match=f"{mine}: there is something that is not a jaxrt artifact"
    ):
        ArtifactWriter(mine).__enter__()
    assert os.listdir(tmp_path) == ["mine"]
    for name, text in content.items():
        assert (mine / name).read_text() == text


def test_a_file_at_the_destination_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UsageError, match="not a jaxrt artifact"):
        ArtifactWriter(tmp_path / "mine").__enter__()
    with pytest.raises(UsageError, match="cannot be written: "):
        ArtifactWriter(tmp_path / "mine" / "below").__enter__()
    assert (tmp_path / "mine").read_text() == "x"


def test_what_appears_while_writing_is_not_replaced_either(tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "a") as writer, pytest.raises(UsageError, match="not a jaxrt"):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "mine").write_text("x")
        writer.commit(manifest())
    assert sorted(os.listdir(tmp_path)) == ["a"]
    assert os.listdir(tmp_path / "a") == ["mine"]


def test_an_empty_directory_may_be_written_over_and_parents_are_made(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write(tmp_path / "a")
    write(tmp_path / "b" / "c" / "d")
    open_artifact(tmp_path / "a")
    open_artifact(tmp_path / "b" / "c" / "d")


def test_an_error_or_no_commit_leaves_everything_as_it_was(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ArtifactWriter(path) as writer:
        writer.portable("f-1", b"half")
        raise ZeroDivisionError
    with ArtifactWriter(path) as writer:
        writer.portable("f-1", b"half")
    assert open_artifact(path).portable("f-1") == b"one"
    assert os.listdir(path.parent) == ["art"]
    with pytest.raises(RuntimeError, match="write inside"):
        writer.portable("f-1", b"late")


def test_a_manifest_that_names_what_was_not_written_is_not_committed(tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "a") as writer:
        with pytest.raises(
            ValueError, match=r"the manifest names \['programs/f-9.jaxexport', 'w'\]"
        ):
            writer.commit(manifest(program("f-9")))
        with pytest.raises(ValueError, match="relative path"):
            writer.file("../b")
        writer.file("host/link").symlink_to("/etc/hostname")
        with pytest.raises(ArtifactError, match="host/link: a symbolic link"):
            writer.commit(manifest())
    assert os.listdir(tmp_path) == []


def test_a_manifest_json_of_the_writers_own_is_not_let_in(tmp_path: Path) -> None:
    with (
        ArtifactWriter(tmp_path / "a") as writer,
        pytest.raises(ValueError, match=r"manifest\.json"),
    ):
        writer.file("manifest.json")


def test_two_writers_of_one_place_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "art"
    with ArtifactWriter(path) as first, ArtifactWriter(path) as second:
        first.portable("f-1", b"first")
        second.portable("f-1", b"second")
        bare = program("f-1", weights=())
        first.commit(manifest(bare))
        assert open_artifact(path).portable("f-1") == b"first"
        second.commit(manifest(bare))
    assert open_artifact(path).portable("f-1") == b"second"
    assert os.listdir(tmp_path) == ["art"]


def test_opening_while_it_is_replaced_gives_one_or_the_other(path: Path) -> None:
    """Hashing meets a replacement at each of its steps: never a mixture, never an error."""
    seen: list[Manifest] = []
    real = Path.read_bytes

    def replace_then_read(self: Path) -> bytes:
        if len(seen) < 3:
            seen.append(write(path, model=f"m{len(seen)}"))
        return real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", replace_then_read)
        artifact: Artifact = open_artifact(path)
    assert artifact.manifest == seen[-1]
    assert artifact.report()["model"] == "m2"


def test_manifests_are_equal_however_often_they_are_written(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    assert one == two
    assert dataclasses.replace(one, model="x") != two
    first, second = (tmp_path / n / "manifest.json" for n in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
