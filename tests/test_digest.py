import hashlib
import os
from pathlib import Path

import pytest

from jaxrt import digest
from jaxrt.digest import content_hash, file_sha256, files_sha256, json_sha256
from jaxrt.errors import ModelError


def model(path: Path) -> Path:
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"graph")
    (path / "variables" / "variables.index").write_bytes(b"index")
    (path / "assets").mkdir()
    return path


def test_known_hashes(tmp_path: Path) -> None:
    empty, abc = tmp_path / "empty", tmp_path / "abc"
    empty.write_bytes(b"")
    abc.write_bytes(b"abc")
    of_empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(abc) == of_abc
    assert files_sha256([abc, empty, abc]) == [of_abc, of_empty, of_abc]
    assert files_sha256([]) == []


def test_json_is_hashed_whatever_the_order_of_its_keys() -> None:
    assert json_sha256({"a": 1, "b": [1, 2]}) == json_sha256({"b": [1, 2], "a": 1})
    assert json_sha256({"b": [1, 2]}) != json_sha256({"b": [2, 1]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_sha256(float("nan"))


def test_the_hash_of_a_directory_does_not_change_between_releases(tmp_path: Path) -> None:
    wanted = "6d8ccf6b42f6d9ab4b6f9b91f58ef1b82dacc778576d604331e46377dfaf5308"
    assert content_hash(model(tmp_path / "m")) == wanted


def test_times_modes_names_and_empty_directories_do_not_count(tmp_path: Path) -> None:
    one, two = model(tmp_path / "one"), model(tmp_path / "two")
    (two / "assets").rmdir()
    os.utime(two / "saved_model.pb", (0, 0))
    (two / "saved_model.pb").chmod(0o600)
    assert content_hash(one) == content_hash(two)


def test_links_count_as_what_they_point_to(tmp_path: Path) -> None:
    one, two = model(tmp_path / "one"), model(tmp_path / "two")
    (two / "saved_model.pb").rename(tmp_path / "graph")
    (two / "saved_model.pb").symlink_to(tmp_path / "graph")
    (two / "variables").rename(tmp_path / "elsewhere")
    (two / "variables").symlink_to(tmp_path / "elsewhere")
    assert content_hash(one) == content_hash(two)


def test_every_byte_and_name_counts(tmp_path: Path) -> None:
    one = model(tmp_path / "one")
    seen = {content_hash(one)}
    (one / "saved_model.pb").write_bytes(b"grapH")
    seen.add(content_hash(one))
    (one / "saved_model.pb").rename(one / "saved_model.pB")
    seen.add(content_hash(one))
    (one / "variables" / "variables.index").rename(one / "variables.index")
    seen.add(content_hash(one))
    (one / "empty").write_bytes(b"")
    seen.add(content_hash(one))
    assert len(seen) == 5


def test_names_that_are_not_utf8_are_hashed(tmp_path: Path) -> None:
    before = content_hash(model(tmp_path / "m"))
    with open(os.path.join(os.fsencode(tmp_path), b"m", b"\xff"), "wb"):
        assert content_hash(tmp_path / "m") != before


def test_what_cannot_be_hashed_is_a_model_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"{tmp_path / 'no'}: cannot be read: No such file"):
        content_hash(tmp_path / "no")
    one = model(tmp_path / "one")
    with pytest.raises(ModelError, match="saved_model.pb: cannot be read: Not a directory"):
        content_hash(one / "saved_model.pb")
    (one / "assets" / "up").symlink_to(one)
    with pytest.raises(ModelError, match="assets/up: a link to a directory above it"):
        content_hash(one)
    (one / "assets" / "up").unlink()
    (one / "assets" / "broken").symlink_to("nowhere")
    with pytest.raises(ModelError, match="assets/broken: cannot be read: No such file"):
        content_hash(one)
    (one / "assets" / "broken").unlink()
    os.mkfifo(one / "assets" / "pipe")
    with pytest.raises(ModelError, match="assets/pipe: not a file"):
        content_hash(one)


def large(path: Path, content: bytes = b"a") -> Path:
    path.write_bytes(content * (3 << 20))
    return path


def test_a_large_file_has_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = large(tmp_path / "weights")
    assert file_sha256(path) == hashlib.sha256(b"a" * (3 << 20)).hexdigest()


def test_a_hash_begun_ahead_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = large(tmp_path / "weights")
    hashed = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return file_sha256(path)

    monkeypatch.setattr(digest, "file_sha256", counted)
    ahead = digest.Ahead()
    ahead.begin([path, tmp_path / "absent"])
    assert ahead.sha256(path) == file_sha256(path)
    assert hashed == [path]
    assert ahead.sha256(path) == file_sha256(path)
    assert hashed == [path, path]
    with pytest.raises(FileNotFoundError):
        ahead.sha256(tmp_path / "absent")


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_changed_since_is_hashed_again(tmp_path: Path, replaced: bool) -> None:
    path = large(tmp_path / "weights")
    ahead = digest.Ahead()
    ahead.begin([path])
    if replaced:
        os.replace(large(tmp_path / "other", b"b"), path)
    else:
        with path.open("r+b") as file:
            file.write(b"b")
        os.utime(path, ns=(1, 1))
    assert ahead.sha256(path) == file_sha256(path)
