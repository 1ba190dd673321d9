"""GPUs as data: their rates, and what XLA must know of one to compile for it where none is."""

import dataclasses
from collections.abc import Mapping

from jaxrt.tpu.chips import Chip


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A kind of GPU: a chip, and the sizes that XLA's code generator asks of the device."""

    chip: Chip
    capability: tuple[int, int]
    """Compute capability; 9.0 and later are compiled with their own instructions (sm_90a)."""
    cores: int
    """Streaming multiprocessors."""
    fpus_per_core: int
    threads_per_core: int
    shared_per_core: int
    """Bytes of shared memory."""
    shared_per_block: int
    """Bytes that one block may ask for."""
    l2_bytes: int
    clock_ghz: float
    device_name: str
    """As the driver names it: JAX's `device_kind`."""

    def target_config(self) -> str:
        """A text proto stream_executor.GpuTargetConfigProto (xla/stream_executor/
        device_description.proto), for `jax.experimental.topologies.get_topology_desc`.
        """
        major, minor = self.capability
        feature = "ACCELERATED_FEATURES" if major >= 9 else "NONE"
        values = {
            "threads_per_block_limit": 1024,
            "threads_per_warp": 32,
            "shared_memory_per_block": 48 << 10,
            "shared_memory_per_core": self.shared_per_core,
            "threads_per_core_limit": self.threads_per_core,
            "core_count": self.cores,
            "fpus_per_core": self.fpus_per_core,
            "block_dim_limit_x": 2**31 - 1,
            "block_dim_limit_y": 2**16 - 1,
            "block_dim_limit_z": 2**16 - 1,
            "memory_bandwidth": int(self.chip.memory_bandwidth),
            "l2_cache_size": self.l2_bytes,
            "clock_rate_ghz": self.clock_ghz,
            "device_memory_size": self.chip.memory_bytes,
            "shared_memory_per_block_optin": self.shared_per_block,
            "registers_per_core_limit": 65536,
            "registers_per_block_limit": 65536,
            "thread_dim_limit_x": 1024,
            "thread_dim_limit_y": 1024,
            "thread_dim_limit_z": 64,
        }
        lines = "".join(f"  {name}: {value}\n" for name, value in values.items())
        capability = f"major: {major} minor: {minor} feature_extension: {feature}"
        return (
            "gpu_device_info {\n"
            f"{lines}  cuda_compute_capability {{ {capability} }}\n"
            f'  name: "{self.device_name}"\n'
            '  device_vendor: "NVIDIA Corporation"\n'
            "}\n"
            'platform_name: "CUDA"\n'
            "dnn_version_info { major: 9 minor: 10 patch: 0 }\n"
            f'device_description_str: "{self.device_name}"\n'
        )


_NVIDIA = "NVIDIA's data sheet, dense rates; sizes: openxla/xla, gpu/target_config/specs"
_HOPPER = {
    "capability": (9, 0),
    "cores": 132,
    "fpus_per_core": 128,
    "threads_per_core": 2048,
    "shared_per_core": 233472,
    "shared_per_block": 232448,
    "l2_bytes": 52428800,
    "clock_ghz": 1.98,
}
_HOPPER_RATES = {
    "bf16_flops": 989e12,
    "f32_flops": 67e12,
    "tf32_flops": 494e12,
    "int8_ops": 1979e12,
    "fp8_flops": 1979e12,
    "link_bandwidth": 25e9,
    "links": 18,
}


def _gpu(name: str, title: str, rates: Mapping[str, object], **sizes: object) -> Gpu:
    figures: dict[str, object] = {"source": _NVIDIA, **rates}
    chip = Chip(name=name, title=title, platform="cuda", **figures)  # type: ignore[arg-type]
    return Gpu(chip=chip, **sizes)  # type: ignore[arg-type]


GPUS: Mapping[str, Gpu] = {
    gpu.chip.name: gpu
    for gpu in (
        _gpu(
            "t4",
            "NVIDIA T4",
            {
                # Its matrix units have no bf16: XLA widens it.
                "bf16_flops": 8.1e12,
                "f32_flops": 8.1e12,
                "int8_ops": 130e12,
                "memory_bytes": 15_843_721_216,
                "memory_bandwidth": 320e9,
                "source": "NVIDIA's data sheet and the Turing tuning guide (CUDA)",
            },
            capability=(7, 5),
            cores=40,
            fpus_per_core=64,
            threads_per_core=1024,
            shared_per_core=64 << 10,
            shared_per_block=64 << 10,
            l2_bytes=4 << 20,
            clock_ghz=1.59,
            device_name="Tesla T4",
        ),
        _gpu(
            "a100",
            "NVIDIA A100 80GB (SXM)",
            {
                "bf16_flops": 312e12,
                "f32_flops": 19.5e12,
                "tf32_flops": 156e12,
                "int8_ops": 624e12,
                "memory_bytes": 85_100_068_864,
                "memory_bandwidth": 2039.04e9,
                "link_bandwidth": 25e9,
                "links": 12,
            },
            capability=(8, 0),
            cores=108,
            fpus_per_core=64,
            threads_per_core=2048,
            shared_per_core=167936,
            shared_per_block=166912,
            l2_bytes=41943040,
            clock_ghz=1.41,
            device_name="NVIDIA A100-SXM4-80GB",
        ),
        _gpu(
            "l4",
            "NVIDIA L4",
            {
                "bf16_flops": 121e12,
                "f32_flops": 30.3e12,
                "tf32_flops": 60e12,
                "int8_ops": 242e12,
                "fp8_flops": 242e12,
                "memory_bytes": 23_663_017_984,
                "memory_bandwidth": 300e9,
                "source": "NVIDIA's data sheet, half of its rates with sparsity; Ada tuning guide",
            },
            capability=(8, 9),
            cores=58,
            fpus_per_core=128,
            threads_per_core=1536,
            shared_per_core=100 << 10,
            shared_per_block=99 << 10,
            l2_bytes=48 << 20,
            clock_ghz=2.04,
            device_name="NVIDIA L4",
        ),
        _gpu(
            "h100",
            "NVIDIA H100 80GB (SXM)",
            {**_HOPPER_RATES, "memory_bytes": 84_942_979_072, "memory_bandwidth": 3352.32e9},
            **_HOPPER,
            device_name="NVIDIA H100 80GB HBM3",
        ),
        _gpu(
            "h200",
            "NVIDIA H200 141GB (SXM)",
            {**_HOPPER_RATES, "memory_bytes": 151_397_597_184, "memory_bandwidth": 4800e9},
            **_HOPPER,
            device_name="NVIDIA H200",
        ),
        _gpu(
            "b200",
            "NVIDIA B200 (SXM)",
            {
                "bf16_flops": 2250e12,
                "f32_flops": 75e12,
                "tf32_flops": 1125e12,
                "int8_ops": 4500e12,
                "fp8_flops": 4500e12,
                "memory_bytes": 191_514_411_008,
                "memory_bandwidth": 7672.32e9,
                "link_bandwidth": 50e9,
                "links": 18,
            },
            capability=(10, 0),
            cores=148,
            fpus_per_core=128,
            threads_per_core=2048,
            shared_per_core=233472,
            shared_per_block=232448,
            l2_bytes=132644864,
            clock_ghz=1.965,
            device_name="NVIDIA B200",
        ),
    )
}
