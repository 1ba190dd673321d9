"""Files beside a SavedModel's graph that a server reads, and that an artifact carries along."""

import shutil
from collections.abc import Callable
from pathlib import Path

from jaxrt import warmups

MLMD = Path("assets.extra") / "mlmd_uuid"
"""The key of ML Metadata (tensorflow_serving/servables/tensorflow/machine_learning_metadata.cc)."""

CARRIED = (warmups.FILE, MLMD)


def carry(model: Path, file: Callable[[str], Path]) -> None:
    """Copies what there is; `file` says where a file of the artifact is written."""
    for name in CARRIED:
        if (model / name).is_file():
            shutil.copyfile(model / name, file(name.as_posix()))
