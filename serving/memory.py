"""The process's memory once its models are loaded: kept, not given back and asked for again.

A request of some megabytes takes as many from the allocator and gives them back. glibc returns such
blocks to the kernel at once, which fills every page with zeros when the next request touches it:
0.5 to 2 µs for 4 KB, more than a program spends on them.
"""

import ctypes
import gc
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's malloc.h."""

KEPT = 64 << 20
"""Free bytes at the end of the heap that are not given back."""

LARGEST = 32 << 20
"""Larger blocks come from the kernel each time; glibc takes no larger limit."""

YOUNG = 10_000
"""Objects made before those among them are searched for cycles. A request makes no cycles."""


def settle() -> None:
    """To be called once, when what stays for good has been loaded."""
    gc.collect()
    gc.freeze()  # no search for cycles goes through the modules and programs again
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    if sys.platform == "linux":
        _keep(ctypes.CDLL(None))


def _keep(libc: ctypes.CDLL) -> None:
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        return  # musl has neither
    libc.malloc_trim(0)  # what loading has left behind
    libc.mallopt(_MMAP_THRESHOLD, LARGEST)
    libc.mallopt(_TRIM_THRESHOLD, KEPT)
