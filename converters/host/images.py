"""The libraries that decode images: an extra, imported when the first image comes."""

import functools
import importlib
import importlib.util
from typing import Any

from jaxrt.errors import Unimplemented


@functools.cache
def library(name: str) -> Any:
    """The module. Raises Unimplemented that names the extra where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Unimplemented(
            f"{name}: not installed, and this model decodes images; pip install 'jaxrt[images]'"
        ) from None


@functools.cache
def installed() -> bool:
    """Whether the extra is there."""
    return all(importlib.util.find_spec(name) for name in ("PIL", "simplejpeg"))
