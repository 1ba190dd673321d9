"""Version directories, policies, and what a path is."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from jaxrt.errors import ModelError
from jaxrt.serving.engine import source
from jaxrt.serving.engine.source import All, Kind, Latest, Policy, Specific


def saved_model(path: Path, file: str = "saved_model.pb") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / file).touch()
    return path


def artifact(path: Path) -> Path:
    return saved_model(path, "manifest.json")


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1", 1),
        ("00000123", 123),
        ("0", 0),
        ("-1", -1),
        ("+7", 7),
        (" 5 ", 5),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", None),
        ("1a", None),
        ("v1", None),
        ("1.0", None),
        ("1e3", None),
        ("1_000", None),
        ("", None),
        ("٣", None),
        ("-", None),
        ("1.jaxrt", None),
    ],
)
def test_directory_names_are_versions_when_they_parse_as_int64(
    name: str, version: int | None
) -> None:
    assert source.version_number(name) == version


def test_scanning_finds_numbered_directories_highest_first(tmp_path: Path) -> None:
    for name in ["2", "10", "00000003", "latest", "4.tmp"]:
        (tmp_path / name).mkdir()
    (tmp_path / "99").touch()  # a file is no version
    assert source.scan(tmp_path) == {
        10: tmp_path / "10",
        3: tmp_path / "00000003",
        2: tmp_path / "2",
    }
    assert list(source.scan(tmp_path)) == [10, 3, 2]


def test_of_two_names_of_one_version_the_last_by_name_wins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ["1", "01", "001"]:
        (tmp_path / name).mkdir()
    with caplog.at_level(logging.WARNING):
        assert source.scan(tmp_path) == {1: tmp_path / "1"}
    assert "version 1 is there twice: loading it from '1', ignoring '01'" in caplog.text


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        (Latest(), [10]),
        (Latest(0), [10]),
        (Latest(2), [10, 3]),
        (Latest(9), [10, 3, 1]),
        (All(), [10, 3, 1]),
        (Specific((1, 10)), [10, 1]),
        (Specific((3, 3)), [3]),
        (Specific((1, 7)), [1]),
        (Specific(()), []),
    ],
)
def test_policies_choose_among_the_versions_found(policy: Policy, versions: list[int]) -> None:
    assert source.chosen([3, 10, 1], policy)[0] == versions


def test_specific_versions_that_are_missing_are_named() -> None:
    assert source.chosen({1: "a"}, Specific((1, 43, 42))) == ([1], [42, 43])
    assert source.chosen([], Latest(3)) == ([], [])


def test_a_missing_base_path_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone: found no base path .*No such file"):
        source.scan(tmp_path / "gone")


@pytest.mark.parametrize(
    ("base_path", "relative"),
    [
        ("/m", False),
        ("gs://bucket/m", False),
        ("s3://m", False),
        ("file:///m", False),
        ("m", True),
        ("", True),
        ("./m", True),
        ("~/m", True),
        ("a/b://c", True),
        ("://m", True),
    ],
)
def test_a_path_is_relative_without_a_leading_slash_or_a_scheme(
    base_path: str, relative: bool
) -> None:
    assert source.is_relative(base_path) is relative


@pytest.mark.parametrize(
    "base_path", ["/models/m", "file:///models/m", "file://localhost/models/m"]
)
def test_a_local_base_path_is_a_path_or_a_file_uri(base_path: str) -> None:
    assert source.local_path(base_path) == Path("/models/m")


def test_a_remote_base_path_is_refused_with_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"gs://b/m: found a gs URI.*mount or copy"):
        source.local_path("gs://b/m")


@pytest.mark.parametrize("file", ["saved_model.pb", "saved_model.pbtxt"])
def test_a_saved_model_is_version_1_and_named_after_its_directory(
    tmp_path: Path, file: str
) -> None:
    path = saved_model(tmp_path / "half_plus_two", file)
    location = source.locate(path)
    assert (location.name, location.base_path) == ("half_plus_two", None)
    assert [(v.version, v.path) for v in location.versions] == [(1, path)]
    assert source.kind_of(path) is Kind.SAVED_MODEL


@pytest.mark.parametrize(
    ("directory", "name"), [("m.jaxrt", "m"), ("m-v1.2.jaxrt", "m-v1.2"), ("m.v2", "m.v2")]
)
def test_an_artifact_is_named_without_its_suffix(tmp_path: Path, directory: str, name: str) -> None:
    path = artifact(tmp_path / directory)
    assert source.kind_of(path) is Kind.ARTIFACT
    assert source.locate(path).name == name
    assert [v.version for v in source.locate(path).versions] == [1]


@pytest.mark.parametrize("make", [saved_model, artifact])
def test_a_version_directory_given_directly_has_its_number_and_its_parents_name(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "resnet" / "00000123")
    location = source.locate(path)
    assert (location.name, location.base_path) == ("resnet", None)
    assert [(v.version, v.path) for v in location.versions] == [(123, path)]


def test_a_base_path_holds_saved_models_and_artifacts_highest_first(tmp_path: Path) -> None:
    base = tmp_path / "m"
    saved_model(base / "1")
    artifact(base / "2")
    (base / "README").mkdir()
    location = source.locate(base)
    assert (location.name, location.base_path) == ("m", base)
    assert [(v.version, v.path) for v in location.versions] == [(2, base / "2"), (1, base / "1")]


def test_a_relative_path_is_named_after_the_directory_it_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved_model(tmp_path / "resnet"))
    assert source.locate(Path(".")).name == "resnet"
    monkeypatch.chdir(saved_model(tmp_path / "bert" / "4"))
    location = source.locate(Path("."))
    assert (location.name, location.versions[0].version) == ("bert", 4)


def test_what_is_no_model_is_refused_with_found_wanted_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").touch()
    (tmp_path / "half" / "1").mkdir(parents=True)
    (tmp_path / "model.keras").touch()
    for name, found in [
        ("gone", "found nothing there"),
        ("empty", "found an empty directory"),
        ("notes", "found a directory with todo.txt"),
        ("half", "found version directories with no model inside (1)"),
        ("model.keras", "found a file"),
    ]:
        with pytest.raises(ModelError) as caught:
            source.locate(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / name}: {found}, want an artifact (manifest.json)")
        assert "tf.saved_model.save(model, path)" in message
        assert "\n" not in message
