"""What a version takes, and what it is known as: gauges that are set when it is loaded."""

import importlib.metadata
import logging
import platform

from jaxrt import __version__
from jaxrt.cli.extras import MLMD
from jaxrt.cli.ready import Ready
from jaxrt.serving.monitoring import families
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.target import Target

log = logging.getLogger("jaxrt.serving")


def count(calls: Calls, ready: Ready) -> None:
    """Bytes of weights and programs, and the key of ML Metadata if there is one."""
    of = (ready.version.name, str(ready.version.version))
    entries = [loaded.entry for loaded in ready.model.entries]
    files = ready.artifact.manifest.files
    code = sum(
        files[entry.executable.file].bytes
        if entry.executable
        else entry.stats.generated_code_bytes or 0
        for entry in entries
    )
    scratch = max((entry.stats.temp_bytes or 0 for entry in entries), default=0)
    gauge = calls.registry.gauge
    gauge(families.EXECUTABLE_BYTES, *of, "code").set(code)
    gauge(families.EXECUTABLE_BYTES, *of, "scratch").set(scratch)
    gauge(families.WEIGHTS_BYTES, *of).set(ready.model.nbytes)
    places = ready.model.places
    gauge(families.REPLICAS, *of).set(len(places))
    gauge(families.MESH_DEVICES, *of).set(len(places[0].devices))
    file = ready.path / MLMD
    if file.is_file():
        try:
            uuid = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            log.warning("%s: cannot be read: %s", file, error)
            return
        # TensorFlow Serving's page has no place for texts: its gauge says 0.
        gauge(families.MLMD_MAP, *of).set(0)
        gauge(families.MLMD, *of, uuid).set(1)


def build(calls: Calls, target: Target) -> None:
    """The versions of what serves."""
    versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib")]
    device = (target.platform, target.device_kind)
    labels = (__version__, *versions, platform.python_version(), *device)
    calls.registry.gauge(families.BUILD, *labels).set(1)
