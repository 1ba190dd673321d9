"""The process that knows TensorFlow: reads requests from a pipe, one JSON line each, and answers.

`python -m jaxrt.converters.bridge REQUESTS ANSWERS SCRATCH`, where the first two are inherited
file descriptors. Standard output is TensorFlow's to print on. The process ends when the pipe of
requests does, also while TensorFlow works.
"""

import ctypes
import json
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from jaxrt.errors import ConversionError, ModelError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    requests, answers, scratch = int(arguments[0]), int(arguments[1]), Path(arguments[2])
    if "--die-with-parent" in arguments:
        _die_with_parent(int(arguments[-1]))
    # Ctrl-C is for the parent, which then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, lines), daemon=True).start()
    with os.fdopen(answers, "w", encoding="utf-8") as out:
        serve(lines, out, scratch)


def serve(lines: "queue.SimpleQueue[str]", out: Any, scratch: Path) -> None:
    """Forever: one answer for each request, in order."""
    models: Any = None
    while True:
        request = json.loads(lines.get())
        try:
            if models is None:
                models = _models(scratch)
            answer = getattr(models, request["do"])(request)
        except ModelError as error:
            answer = {"error": str(error), "conversion": isinstance(error, ConversionError)}
        except Exception as error:  # the parent shall have a line, whatever went wrong
            traceback.print_exc()
            text = (
                f"{request.get('path')}: TensorFlow's side fails: {type(error).__name__}: {error}"
            )
            answer = {"error": text.partition("\n")[0], "conversion": False}
        out.write(json.dumps(answer) + "\n")
        out.flush()


def _models(scratch: Path) -> Any:
    # Keras draws with it if it can be imported, which takes a second and a folder of the user's.
    sys.modules.setdefault("matplotlib", None)  # type: ignore[arg-type]
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "TensorFlow is needed to read a SavedModel and is not installed"
            + ("" if isinstance(error, ModuleNotFoundError) else f" properly ({error})")
            + ': pip install "jaxrt[convert]", or serve a compiled artifact'
        ) from None
    from jaxrt.converters.models import Models

    return Models(scratch)


def _read(fd: int, lines: "queue.SimpleQueue[str]") -> None:
    with os.fdopen(fd, encoding="utf-8") as pipe:
        for line in pipe:
            lines.put(line)
    os._exit(0)  # the parent is gone or done; TensorFlow's threads are not waited for


def _die_with_parent(parent: int) -> None:
    """The pipe's end is seen only when TensorFlow gives up the GIL; the kernel does not wait."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
