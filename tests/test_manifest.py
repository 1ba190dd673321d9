import copy
import dataclasses
import json
from typing import Any

import pytest

from jaxrt.digest import json_sha256
from jaxrt.errors import ArtifactError
from jaxrt.manifest import (
    FORMAT_VERSION,
    ExecutableEntry,
    FileEntry,
    Manifest,
    ProgramEntry,
    SignatureEntry,
    Source,
    Stats,
    TargetRecord,
    check_relative,
    decode,
    encode,
    recognised,
)
from jaxrt.specs import Dim, SignatureSpec, TensorSpec

X = TensorSpec(name="f_x:0", dtype="float32", dims=(Dim(-1, "batch"), Dim(3)))
Y = TensorSpec(name="f_y:0", dtype="float32", dims=None)
PROGRAM = ProgramEntry(
    key="f-1",
    input_names=("x",),
    input_shapes={"x": (1, 3)},
    input_dtypes={"x": "float32"},
    output_names=("z", "y"),
    output_shapes={"y": (1,), "z": ()},
    output_dtypes={"y": "float32", "z": "bfloat16"},
    weights=("b", "a"),
    rows="independent",
    rows_reason="every op keeps rows apart",
    random=False,
    portable="programs/f-1.jaxexport",
    executable=ExecutableEntry(file="executables/f-1.pjrt", key="abc"),
    stats=Stats(flops=6.0, argument_bytes=12, compile_seconds=0.5),
)
MANIFEST = Manifest(
    jaxrt="0.1.0",
    model="half_plus_two",
    tools={"jax": "0.12.0", "python": "3.12.1"},
    source=Source(path="models/h", sha256="0" * 64, tags=("serve",)),
    options={"batch_sizes": [1, 8], "shapes": {"x": [3]}},
    target=TargetRecord(platform="cpu", device_kind="cpu", fingerprint={"hash": "abc"}),
    signatures={
        "f": SignatureEntry(
            spec=SignatureSpec(inputs={"x": X}, outputs={"y": Y, "z": Y}, method_name="predict"),
            programs=(PROGRAM,),
        ),
        "g": SignatureEntry(spec=SignatureSpec(inputs={}, outputs={}), refused="strings"),
    },
    files={"programs/f-1.jaxexport": FileEntry(sha256="1" * 64, bytes=3)},
)


def edited(path: list[Any], value: Any, *, rehash: bool = True) -> bytes:
    """MANIFEST's bytes with one field changed; `...` as the value removes it."""
    data: Any = json.loads(encode(MANIFEST))
    at = data
    for step in path[:-1]:
        at = at[step]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    if rehash:
        data.pop("manifest_sha256", None)
        data["manifest_sha256"] = json_sha256(data)
    return json.dumps(data).encode()


def test_a_manifest_comes_back_equal() -> None:
    assert decode(encode(MANIFEST), "m.json") == MANIFEST


def test_values_that_a_program_fixes_come_back_equal() -> None:
    program = dataclasses.replace(
        PROGRAM,
        input_names=("x", "training"),
        input_shapes={"x": (1, 3), "training": ()},
        input_dtypes={"x": "float32", "training": "bool"},
        values={"training": False},
    )
    entry = dataclasses.replace(MANIFEST.signatures["f"], programs=(program,))
    manifest = dataclasses.replace(MANIFEST, signatures={"f": entry})
    assert decode(encode(manifest), "m.json") == manifest


def test_order_that_means_something_is_kept() -> None:
    back = decode(encode(MANIFEST), "m.json")
    assert back.programs[0].output_names == ("z", "y")
    assert back.programs[0].weights == ("b", "a")
    assert list(back.signatures["f"].spec.outputs) == ["y", "z"]


def test_this_version_is_written_first_and_recognised_even_when_truncated() -> None:
    content = encode(MANIFEST)
    assert json.loads(content)["format_version"] == FORMAT_VERSION
    assert recognised(content[:64])
    assert not recognised(b"")
    assert not recognised(b'{"format": "something else"')
    assert not recognised(b"\x00\x01")


def test_another_format_version_is_refused_with_both_versions_named() -> None:
    content = edited(["format_version"], 7, rehash=False)
    with pytest.raises(ArtifactError, match=r"format version 7 \(written by jaxrt '0.1.0'\), this"):
        decode(content, "m.json")


def test_no_truncation_of_a_manifest_is_read() -> None:
    content = encode(MANIFEST)
    for size in range(len(content)):
        with pytest.raises(ArtifactError):
            decode(content[:size], "m.json")


def test_white_space_and_key_order_do_not_alter_a_manifest() -> None:
    data = json.loads(encode(MANIFEST))
    turned = json.dumps(dict(reversed(data.items())), indent=7).encode()
    assert decode(turned, "m.json") == MANIFEST


@pytest.mark.parametrize("path", [["model"], ["signatures", "f", "programs", 0, "weights", 0]])
def test_an_edit_without_a_new_hash_is_refused(path: list[Any]) -> None:
    with pytest.raises(ArtifactError, match="m.json: its content has SHA-256"):
        decode(edited(path, "other", rehash=False), "m.json")


def test_a_missing_hash_is_refused() -> None:
    with pytest.raises(ArtifactError, match="it says None"):
        decode(edited(["manifest_sha256"], ..., rehash=False), "m.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "want an object whose `format`"),
        (b"{}", "want an object whose `format`"),
        (edited(["format"], "tar"), "want an object whose `format`"),
        (edited(["options"], {"x": float("nan")}, rehash=False), "not JSON compliant"),
    ],
)
def test_what_is_no_manifest_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ArtifactError, match=said) as caught:
        decode(content, "dir/m.json")
    assert str(caught.value).startswith("dir/m.json: ")
    assert str(caught.value).endswith("recompile with `jaxrt compile`")


P = ["signatures", "f", "programs", 0]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["model"], ..., "model: the field is missing"),
        (["extra"], 1, "extra: an unknown field"),
        (["model"], 3, "model: found 3, want a string"),
        (["signatures"], [], r"signatures: found \[\], want an object"),
        (["signatures", "f"], None, "signatures.f: found None, want an object"),
        (["tools", "jax"], None, "tools: found .* want an object of strings"),
        (["source", "sha256"], "xyz", "source.sha256: found 'xyz', want a string like"),
        (["source", "tags"], "serve", "source.tags: found 'serve', want a list"),
        (["source", "tags"], [1], r"source.tags: found \[1\], want a list of strings"),
        ([*P, "rows"], "some", "program f-1: rows 'some', want one of"),
        ([*P, "key"], "../x", "program key '../x': want a file stem"),
        ([*P, "key"], ".x", "program key '.x': want a file stem"),
        ([*P, "random"], 0, r"signatures.f.programs\[0\].random: found 0, want true or false"),
        ([*P, "values"], {"x": 1}, r"values: found \{'x': 1\}, want an object of true and false"),
        ([*P, "values"], {"x": True}, "program f-1: fixed 'x' is no scalar bool input"),
        ([*P, "values"], {"w": True}, "program f-1: fixed 'w' is no scalar bool input"),
        ([*P, "input_shapes", "x"], [1.5], r"programs\[0\].input_shapes: found"),
        ([*P, "input_shapes", "x"], [True], r"programs\[0\].input_shapes: found"),
        ([*P, "input_shapes", "x"], [-1], r"input 'x' is float32\[-1\]"),
        ([*P, "input_dtypes", "x"], "float31", r"input 'x' is float31\[1, 3\]"),
        ([*P, "input_names"], ["x", "w"], r"input names \('x', 'w'\), shapes of \['x'\]"),
        ([*P, "output_names"], ["y", "y", "z"], "output names .* want the same names, each once"),
        ([*P, "executable", "key"], ..., r"programs\[0\].executable.key: the field is missing"),
        ([*P, "stats", "flops"], "6", "stats.flops: found '6', want a number or null"),
        ([*P, "stats", "temp_bytes"], -1, "stats.temp_bytes: found -1, want a whole number"),
        (["signatures", "f", "spec", "inputs"], ..., "signatures.f.spec: KeyError"),
        (["files", "a"], {"sha256": "1" * 64, "bytes": 1.0}, "files.a.bytes: found 1.0"),
        (["files", "/etc/passwd"], {"sha256": "1" * 64, "bytes": 1}, "file name '/etc/passwd'"),
        (["files", "a/../../b"], {"sha256": "1" * 64, "bytes": 1}, "file name 'a/../../b'"),
        (["files", "manifest.json"], {"sha256": "1" * 64, "bytes": 1}, "file name 'manifest.json'"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_found_and_wanted(
    path: list[Any], value: Any, said: str
) -> None:
    with pytest.raises(ArtifactError, match=said):
        decode(edited(path, value), "m.json")


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", ".", "./a", "..", "a/..", "a\\b", "a\0"])
def test_paths_that_leave_the_artifact_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="want a relative path inside the artifact"):
        check_relative(name)


@pytest.mark.parametrize("name", ["a", "host/assets/vocab.txt", "host/ä b", "host/..a"])
def test_paths_inside_the_artifact_are_fine(name: str) -> None:
    check_relative(name)


def test_two_programs_of_one_key_are_refused() -> None:
    entry = dataclasses.replace(MANIFEST.signatures["f"], programs=(PROGRAM, copy.copy(PROGRAM)))
    with pytest.raises(ValueError, match=r"program keys \['f-1'\] come twice"):
        dataclasses.replace(MANIFEST, signatures={"f": entry})


def test_options_that_json_would_change_are_refused() -> None:
    with pytest.raises(ValueError, match="options: JSON does not give the same back"):
        dataclasses.replace(MANIFEST, options={"batch_sizes": (1, 8)})


def test_the_files_of_a_program_are_its_portable_form_and_its_executable_if_any() -> None:
    assert PROGRAM.files == ("programs/f-1.jaxexport", "executables/f-1.pjrt")
    bare = dataclasses.replace(PROGRAM, executable=None)
    assert bare.files == ("programs/f-1.jaxexport",)
    assert ProgramEntry.from_json(bare.to_json()) == bare
