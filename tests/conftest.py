"""What every test stands on: strict JAX, a clean environment, no cache of the user's."""

import os
from pathlib import Path

import pytest

# Before jax is imported: a test machine may have a GPU that something else is using.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax

# A loaded machine draws slowly; that is no fault of what is tested.
hypothesis.settings.register_profile(
    "jaxrt", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("jaxrt")

# jaxrt writes every dtype and every broadcast out; here a silent promotion is an error.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Read by jaxrt, by the HTTP clients of the tests, or by TensorFlow in a child process.
_CLEARED = (
    "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
    "PYTHONPROFILEIMPORTTIME", "PYTHONWARNINGS", "TF_USE_LEGACY_KERAS", "KERAS_BACKEND",
    "XLA_FLAGS", "JAX_ENABLE_X64", "JAX_COMPILATION_CACHE_DIR",
)  # fmt: skip


@pytest.fixture(autouse=True)
def clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Subprocesses of a test see neither the user's settings nor the user's caches."""
    for name in (*_CLEARED, *(name for name in os.environ if name.startswith("JAXRT_"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(_cache(tmp_path_factory)))


def _cache(factory: pytest.TempPathFactory) -> Path:
    path = factory.getbasetemp() / "cache"
    path.mkdir(exist_ok=True)
    return path
