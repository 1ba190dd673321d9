"""Asserts of a model over HTTP: the client gets TensorFlow's error, without TensorFlow too."""

import dataclasses
from pathlib import Path
from typing import Any

import mixed_models
import pytest
from endtoend import Server, run, signed, without_tensorflow

from jaxrt.artifact import open_artifact
from jaxrt.manifest import Manifest

FINE = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]
BROKEN = {"checked": [[1.0, 2.0, 3.0, 4.0], [500.0, 1.0, 1.0, 1.0]], "checked_late": [[2e6] * 4]}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("asserts")
    mixed_models.build(home, "words")
    chosen = [part for name in BROKEN for part in ("--signature", name)]
    done = run("compile", "words", "--batch-sizes", "1,4", *chosen, home=home)
    assert done.returncode == 0, done.stderr
    return home / "words.jaxrt"


def by_tensorflow(manifest: Manifest) -> Manifest:
    """The host's stages run by TensorFlow."""

    def stages(found: Any) -> Any:
        return tuple(
            dataclasses.replace(s, host=dataclasses.replace(s.host, executor="tensorflow"))
            if s.host
            else s
            for s in found
        )

    signatures = {
        name: dataclasses.replace(entry, stages=stages(entry.stages))
        for name, entry in manifest.signatures.items()
    }
    return dataclasses.replace(manifest, signatures=signatures)


def asked(artifact: Path, home: Path, path: str = "") -> dict[str, list[tuple[int, Any]]]:
    """Signature → the answers to good rows, broken ones, and good ones again."""
    with Server(artifact, home=home, path=path) as server:
        return {
            name: [server.predict(artifact.stem, {"x": x}, name) for x in (FINE, broken, FINE)]
            for name, broken in BROKEN.items()
        }


def test_asserts_run_natively_and_fail_as_in_tensorflow(artifact: Path, tmp_path: Path) -> None:
    with open_artifact(artifact) as opened:
        hosts = opened.manifest.hosts
    assert {host.executor for host in hosts} == {"native"}
    assert all(host.targets for host in hosts)
    native = asked(artifact, tmp_path, path=without_tensorflow(tmp_path))
    want = asked(signed(artifact, tmp_path, by_tensorflow), tmp_path)
    for name, message in (("checked", "want small numbers"), ("checked_late", "want small answ")):
        fine, broken, again = native[name]
        assert fine[0] == again[0] == 200 and fine[1] == again[1]
        status, error = broken
        assert status == 400
        assert error.startswith("assertion failed: [") and message in error
        assert want[name][0] == fine and want[name][2] == again
        # TensorFlow adds the node of its graph that failed.
        assert (status, error) == (want[name][1][0], want[name][1][1].partition("\n\t [[{{node")[0])
