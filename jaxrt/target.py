"""Where a program runs: platform, kind of device, and what its executables depend on."""

import dataclasses
import hashlib
import os
import platform as host
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from jaxlib import version as jaxlib_version

from jaxrt.errors import DeviceError, UsageError

PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda", "tpu": "tpu"}
"""What users type → the platform's name in JAX's lowering and export."""

NARROW = 256
"""XLA's default width of vectors, in bits."""

WIDE = 512

WIDE_AT_FULL_CLOCK = "avx512_vbmi2"
"""The flag of CPUs whose clock does not drop with AVX-512: Ice Lake and later, Zen 4 and later."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A device to compile for. Equal fingerprints: executables may be exchanged."""

    platform: str
    """cpu, cuda or tpu."""
    device_kind: str
    """As the device names itself: `cpu`, `NVIDIA H100 80GB HBM3`, `TPU v5 lite`."""
    num_devices: int
    fingerprint: str
    """jaxlib version, runtime version, device kind and (on CPU) instruction set, hashed.

    How many devices there are, and how they are wired, is no part of it: `topology` tells.
    """
    features: str
    """What went into the fingerprint, for people."""
    topology: str = ""
    """The slice or GPUs by name, `v5e:2x4`, where it is known; `cpu:8` for emulated devices."""
    absent: bool = False
    """Its devices are elsewhere: programs are compiled for them and cannot be run."""
    vector_bits: int = NARROW
    """Of the vectors in XLA:CPU's own loops; products of matrices choose theirs at run time."""

    def describe(self) -> str:
        kind = "" if self.device_kind == self.platform else f" ({self.device_kind})"
        return f"{self.topology or self.platform}{kind}"

    @property
    def compiler_options(self) -> dict[str, str | bool]:
        """For XLA, beside its defaults."""
        if self.platform != "cpu" or self.vector_bits == NARROW:
            return {}
        return {"xla_cpu_prefer_vector_width": str(self.vector_bits)}


def platform_of(name: str) -> str:
    """`gpu` → `cuda`, `cpu:8` → `cpu`; raises UsageError for a name that is none of PLATFORMS."""
    if name not in PLATFORMS and emulated(name) is None:
        raise UsageError(
            f"device {name!r}: want one of {', '.join(PLATFORMS)}, cpu:N for N emulated devices, "
            "or a chip that `jaxrt targets` lists, such as v5e:2x4"
        )
    return PLATFORMS[name.partition(":")[0]]


def emulated(name: str) -> int | None:
    """How many devices the host is to show: 8 of `cpu:8`; None for other names."""
    found = _EMULATED.fullmatch(name)
    return int(found[1]) if found else None


_EMULATED = re.compile(r"cpu:([1-9][0-9]{0,2})")


def devices(platform: str) -> list[jax.Device]:
    """The attached devices of a platform; raises DeviceError when there is none."""
    try:
        return list(jax.local_devices(backend=platform))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(
            f"device {platform}: none is attached or its plugin is missing ({reason}); "
            f"install jax[{'cuda13' if platform == 'cuda' else platform}] on a machine that has "
            "one, or use --device cpu"
        ) from None


def attached(platform: str, count: int = 1) -> Target:
    """The target of the first `count` attached devices; raises DeviceError when there are fewer."""
    found = devices(platform)
    if len(found) < count:
        raise DeviceError(
            f"device {platform}:{count}: only {len(found)} are attached to this process"
        )
    device = found[0]
    bits = NARROW
    if platform == "cpu":
        cpuinfo = Path("/proc/cpuinfo")
        features = [f"jaxlib {jaxlib_version.__version__}", platform]
        features += [device.client.platform_version, host.machine(), cpu_features(cpuinfo)]
        bits = vector_bits(cpuinfo)
    else:
        features = accelerator_features(device)
    return Target(
        platform=platform,
        device_kind=device.device_kind,
        num_devices=count,
        fingerprint=fingerprint(features),
        features=spelled(features),
        topology=f"{platform}:{count}" if count > 1 else "",
        vector_bits=bits,
    )


def accelerator_features(device: Any) -> list[str]:
    """What executables for a TPU or GPU depend on, of an attached device or one described.

    The runtime's version names libtpu's build or CUDA's; attached and described clients of one
    plugin agree in it, but for the first line that some versions of jaxlib put before it.
    """
    version = device.client.platform_version.removeprefix("PJRT C API\n")
    return [
        f"jaxlib {jaxlib_version.__version__}",
        PLATFORMS.get(device.platform, device.platform),
        version,
        device.device_kind,
        str(getattr(device, "compute_capability", "")),
    ]


def spelled(features: Sequence[str]) -> str:
    """One line for people."""
    return "; ".join(" ".join(f.split()) for f in features if f)


def fingerprint(features: Sequence[str]) -> str:
    return hashlib.sha256(spelled(features).encode()).hexdigest()[:16]


def select(device: str) -> Target:
    """The target behind `--device`; platforms nobody asked for are not even initialised.

    To be called before anything else uses jax. `cpu:8` shows the host as eight devices, to try
    plans on. Raises UsageError, DeviceError.
    """
    platform = platform_of(device)
    count = emulated(device)
    if count is not None:
        kept = [f for f in os.environ.get("XLA_FLAGS", "").split() if not f.startswith(_EMULATE)]
        os.environ["XLA_FLAGS"] = " ".join([*kept, f"{_EMULATE}={count}"])
    jax.config.update("jax_platforms", platform if platform == "cpu" else f"{platform},cpu")
    # A CPU program runs on the thread that calls it, which waits for the answer anyway: handing it
    # to another thread costs 40 µs, more than a small model.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return attached(platform, count or 1)


_EMULATE = "--xla_force_host_platform_device_count"


def cpu_features(cpuinfo: Path) -> str:
    """The instruction sets XLA:CPU may use here: it compiles for the host it runs on.

    An executable with AVX-512 dies with SIGILL on a host without, and jaxlib does not check
    (jax#38445), so they are part of the key.
    """
    flags = _flags(cpuinfo)
    if not flags:
        return host.processor()
    return "flags " + hashlib.sha256(" ".join(flags).encode()).hexdigest()[:16]


def vector_bits(cpuinfo: Path) -> int:
    """The width of vectors that loops over elements are fastest with."""
    return WIDE if WIDE_AT_FULL_CLOCK in _flags(cpuinfo) else NARROW


def _flags(cpuinfo: Path) -> list[str]:
    """Instruction sets, sorted; none where the host does not say."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return []
    found = (line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features")))
    return sorted(next(found, "").split())
