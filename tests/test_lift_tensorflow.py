"""TensorFlow's ops, lowered by TensorFlow and lifted, give what TensorFlow's kernels give."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import lifting
import numpy as np
import pytest
import tf_ops


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tf_ops")
    run = subprocess.run(
        [sys.executable, tf_ops.__file__, str(folder)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return folder


def arrays(stored: Any, prefix: str) -> list[np.ndarray[Any, Any]]:
    return [stored[f"{prefix}{i}"] for i in range(sum(n.startswith(prefix) for n in stored.files))]


@pytest.mark.parametrize("name", tf_ops.CASES)
def test_an_op_gives_what_tensorflow_gives(recorded: Path, name: str) -> None:
    stored = np.load(recorded / f"{name}.npz")
    data = (recorded / f"{name}.stablehlo").read_bytes()
    found = lifting.lifted(data, *arrays(stored, "x"))
    lifting.assert_equal(found, arrays(stored, "y"), rtol=tf_ops.CASES[name].rtol)
