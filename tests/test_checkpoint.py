"""Names of the weights in a checkpoint, and what they take, are known without reading it."""

from pathlib import Path

import pytest

from jaxrt.checkpoint import Checkpoint, Entry
from jaxrt.errors import ArtifactError


def test_names_are_known_without_reading_weights(tmp_path: Path) -> None:
    entries = {"w": Entry(group="0", key="0", dtype="float32", shape=(2, 3))}
    with Checkpoint(tmp_path / "gone", entries) as found:
        assert "w" in found and "v" not in found
        assert {"w", "v"} - found.keys() == {"v"}
        assert (len(found), found.nbytes) == (1, 24)
        with pytest.raises(ArtifactError, match="recompile"):
            found["w"]
