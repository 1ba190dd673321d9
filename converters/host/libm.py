"""Functions of the C library that TensorFlow's kernels call: the same bits on the same machine."""

import ctypes
import ctypes.util
import functools
from collections.abc import Callable


@functools.cache
def single(name: str) -> Callable[[float], float]:
    """A function float → float, by its C name (`expf`)."""
    function = getattr(ctypes.CDLL(ctypes.util.find_library("m")), name)
    function.argtypes, function.restype = (ctypes.c_float,), ctypes.c_float
    called: Callable[[float], float] = function
    return called
