"""A directory for what TensorFlow's process hands over, removed though the process is killed."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxrt import staging


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory below the system's one for temporary files, for this user alone.

    What killed processes left is removed first. Raises OSError when there is no room for it.
    """
    # One name a user: nobody sweeps, or waits for, another's. The lock tells who is dead.
    place = Path(tempfile.gettempdir()) / f"jaxrt-bridge-{os.getuid()}"
    staging.sweep(place)
    with staging.staged(place) as path:
        path.chmod(0o700)
        yield path
