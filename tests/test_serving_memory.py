"""What a server does about memory before it opens its port."""

import subprocess
import sys

PROGRAM = """
import gc, resource
import numpy as np
from jaxrt.serving import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(1 << 20, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
memory.settle()
faults()
print(before, faults(), gc.get_freeze_count() > 0)
"""


def test_large_arrays_touch_no_new_pages_after_the_first_ones() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    before, after, frozen = done.stdout.split()
    if sys.platform == "linux":
        assert int(after) < int(before) / 10
    assert frozen == b"True"
