"""TensorFlow's StableHLO in the form that every later reader understands. TensorFlow's process.

The bytes of `stage="stablehlo_serialized"` are MLIR bytecode of TensorFlow's own build: jaxlib 0.12
cannot read a custom call in those of TensorFlow 2.21. A portable artifact has the compatibility
promise (openxla/stablehlo, docs/compatibility.md), and no place for MHLO ops; StableHLO's way of
writing one is a custom call of its name.
"""

import re
from collections.abc import Callable

from tensorflow.compiler.mlir.stablehlo import stablehlo

OLDEST_READER = "1.17.0"
"""StableHLO of jaxlib 0.10.2, the oldest supported."""

_UNARY = re.compile(r"= mhlo\.(\w+) (%[\w#]+) : (tensor<[^()]*>)(?= loc|$)", re.MULTILINE)


LARGEST_TEXT = 64 << 20
"""Bytes of bytecode. Text spells constants out in hexadecimal digits, which takes its time."""


def artifact(bytecode: bytes, text: Callable[[], str]) -> bytes:
    """A module as bytecode → a portable artifact; `text` gives the same module as text.

    Comes back as it went in where that cannot be: most readers read it all the same, and the
    others say what is wrong.
    """
    version = stablehlo.get_smaller_version(stablehlo.get_current_version(), OLDEST_READER)
    try:
        if not _has_mhlo(bytecode):
            return bytes(stablehlo.serialize_portable_artifact_str(bytecode, version))
        if len(bytecode) <= LARGEST_TEXT:
            return bytes(stablehlo.serialize_portable_artifact_str(as_calls(text()), version))
    except ValueError:
        pass
    return bytecode


def _has_mhlo(bytecode: bytes) -> bool:
    """The table of strings names a dialect by itself only where an op of it is used."""
    return b"\0mhlo\0" in bytecode


def as_calls(text: str) -> str:
    """Unary MHLO ops, `%y = mhlo.erf %x : type` → custom calls of the same name."""
    return _UNARY.sub(r"= stablehlo.custom_call @mhlo.\1(\2) : (\3) -> \3", text)
