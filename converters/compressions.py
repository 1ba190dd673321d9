"""What compression did, as the report keeps it."""

import dataclasses
import difflib
import re
from collections.abc import Sequence
from typing import Any

from jaxrt.compression.goals import Wanted
from jaxrt.compression.layers import Other
from jaxrt.compression.schemes import Scheme
from jaxrt.converters import pruning
from jaxrt.converters.bases import said
from jaxrt.converters.compressing import Compression, LayerChoice
from jaxrt.converters.making import Made
from jaxrt.converters.pruning import Pruned


def make(made: Made) -> dict[str, Any] | None:
    """JSON: shares as numbers, 0.01 is 1 %; bytes; seconds. None where nobody asked for it."""
    found = made.compression
    if found is None:
        return None
    before, after = _nbytes(made, found)
    return {
        "asked": found.wanted.to_json(),
        "budget": str(found.wanted.limit),
        "dropped": made.dropped,
        "calibration": {
            "said": found.data.said,
            "made_up": list(found.data.made_up),
            "rows": {
                key: sum(_rows(s.inputs) for s in samples)
                for key, samples in found.data.samples.items()
            },
            "rows_tried": found.rows,
            "estimated": found.estimated,
        },
        "notes": [*found.notes, *_idle(found.wanted, [c.layer.name for c in found.layers])],
        "pruned": None if made.pruned is None else _pruned(made.pruned),
        "bytes_before": before,
        "bytes_after": after,
        "layers": [_layer(choice, made.dropped) for choice in found.layers],
        "others": [_other(one) for one in made.pruned.others] if made.pruned else [],
        "outputs": {
            key: [error.to_json() for error in errors] for key, errors in found.outputs.items()
        },
        "points": [
            {"bytes": point.nbytes, "error": point.error, "agreement": point.agreement}
            for point in found.points
        ],
        "speed": [speed.to_json() for speed in made.speeds],
    }


def _nbytes(made: Made, found: Compression) -> tuple[int, int]:
    """Of the weights as they were, and as they are stored. Those of forms that take more room, as
    Winograd's kernels, are no matter of compression: the two are equal where it changes nothing."""
    after = sum(array.nbytes for array in made.weights.arrays.values())
    pruned = made.pruned
    if made.dropped or not (found.chosen or (pruned and pruned.channels)):
        return after, after
    return (pruned.before if pruned else found.before), after


def _pruned(found: Pruned) -> dict[str, Any]:
    return {
        "share": found.share,
        "channels": [
            {
                **dataclasses.asdict(channels),
                "weights": pruning.dims_said(channels.weights),
                "error": channels.error.to_json() if channels.error else None,
            }
            for channels in found.channels
        ],
        "error": found.error.to_json() if found.error else None,
        "bytes_before": found.before,
        "bytes_after": found.after,
        "flops_before": found.flops_before,
        "flops_after": found.flops_after,
        "notes": list(found.notes),
    }


def _other(found: Other) -> dict[str, Any]:
    return {
        "weight": said(found.weight),
        "shape": list(found.shape),
        "bytes": found.nbytes,
        "why": found.why,
    }


def _rows(inputs: Any) -> int:
    return max((len(array) for array in inputs.values() if array.ndim), default=1)


def _layer(choice: LayerChoice, dropped: str | None) -> dict[str, Any]:
    layer, error = choice.layer, choice.error
    return {
        "layer": said(layer.name),
        "kind": layer.kind,
        "shape": list(layer.shape),
        "scheme": Scheme.FLOAT.value if dropped else choice.scheme.value,
        "bytes_before": layer.nbytes,
        "bytes_after": layer.nbytes if dropped else choice.nbytes,
        "error": None if error is None else error.to_json(),
        "why": "it would be slower" if dropped else choice.why,
    }


def _idle(wanted: Wanted, layers: Sequence[str]) -> list[str]:
    """Rules that find nothing, and the names that may have been meant."""
    found = []
    for pattern in (rule.pattern for rule in wanted.rules):
        if layers and not any(re.search(pattern, name) for name in layers):
            known = list(dict.fromkeys(map(said, layers)))
            near = difflib.get_close_matches(pattern, known, cutoff=0.3) or known[:3]
            found.append(f"rule {pattern!r}: no layer has it in its name; near: {', '.join(near)}")
    return found
