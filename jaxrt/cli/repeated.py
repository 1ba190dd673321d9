"""Layers that a model repeats, as one line: `encoder_*/key/kernel ×12`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

FEW = 20
"""So many layers are shown each for itself."""

Layer = Mapping[str, Any]
"""As the report's account of compression has it."""

_NUMBER = re.compile(r"_?\d+(?!\d*d(?:_|/|$))")
"""That of `conv2d` counts nothing. Keras gives the first of a name none: `dense`, `dense_1`."""


def repeated(layers: Sequence[Layer]) -> list[Layer]:
    """Layers of one shape whose names differ in numbers alone and of which became the same, as one.

    It has the bytes of all and the worst error of any.
    """
    if len(layers) <= FEW:
        return list(layers)
    groups: dict[Any, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(_alike(layer), []).append(layer)
    return [group[0] if len(group) == 1 else _one(group) for group in groups.values()]


def _alike(layer: Layer) -> tuple[str, ...]:
    name = _NUMBER.sub("", layer["layer"])
    why = re.sub(r"\d+", "*", layer["why"])
    return name, layer["kind"], layer["scheme"], str(layer["shape"]), why


def _one(group: Sequence[Layer]) -> Layer:
    errors = [layer["error"] for layer in group if layer["error"] is not None]
    return {
        **group[0],
        "layer": f"{_spelled([layer['layer'] for layer in group])} ×{len(group)}",
        "bytes_before": sum(layer["bytes_before"] for layer in group),
        "bytes_after": sum(layer["bytes_after"] for layer in group),
        "error": max(errors, key=lambda error: float(error["rms"]), default=None),
    }


def _spelled(names: Sequence[str]) -> str:
    longest = max(names, key=lambda name: len(_NUMBER.findall(name)))
    return _NUMBER.sub(lambda found: "_*" if found[0].startswith("_") else "*", longest)
