"""The optimization report: what was compiled, what was refused and why, and what was gained."""

from collections.abc import Mapping
from typing import Any

from jaxrt.converters import emit, planning
from jaxrt.converters.conversion import ConvertedSignature
from jaxrt.converters.records import ModelRecord


def make(
    *,
    model: ModelRecord,
    refused: Mapping[str, str | None],
    plans: Mapping[str, planning.Plan],
    converted: Mapping[str, ConvertedSignature],
    compiled: Mapping[str, emit.Compiled],
    checks: Mapping[str, Mapping[str, Any]],
    weights: emit.Prepared,
    seconds: float,
) -> dict[str, Any]:
    """report.json: JSON values, one entry a signature; bytes, FLOPs a call, seconds."""
    return {
        "seconds": round(seconds, 3),
        "weights": {
            "source_bytes": weights.source_bytes,
            "stored_bytes": sum(a.nbytes for a in weights.arrays.values()),
            "stored": len(weights.arrays),
        },
        "signatures": {
            key: {
                "refused": refused[key],
                "unplanned": plans[key].unplanned if key in plans else None,
                "tensorflow_ops": list(model.ops.get(key, ())),
                "notes": list(converted[key].notes) if key in converted else [],
                "against_tensorflow": checks.get(key),
                "programs": _programs(converted[key], compiled[key]) if key in compiled else [],
            }
            for key in model.signatures
        },
    }


def _programs(signature: ConvertedSignature, compiled: emit.Compiled) -> list[dict[str, Any]]:
    return [
        {
            "key": entry.key,
            "input_shapes": {name: list(shape) for name, shape in entry.input_shapes.items()},
            "where": "device",
            "rows": entry.rows,
            "rows_reason": entry.rows_reason,
            "random": entry.random,
            "equations_lifted": program.ops_lifted,
            "equations_per_request": len(program.split.apply.jaxpr.jaxpr.eqns),
            "equations_prepared": len(program.split.prepare.jaxpr.eqns),
            "stats": entry.stats.to_json(),
        }
        for program, entry in zip(signature.programs, compiled.entries, strict=True)
    ]
