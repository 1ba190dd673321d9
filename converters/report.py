"""The optimization report: what was compiled, what was refused and why, and what was gained."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxrt.converters import emit, planning
from jaxrt.converters.conversion import ConvertedSignature
from jaxrt.converters.costs import costs
from jaxrt.converters.records import ModelRecord
from jaxrt.converters.routes import Route
from jaxrt.converters.summary import summary
from jaxrt.manifest import ProgramEntry, SignatureEntry, StageEntry
from jaxrt.specs import stage_key


def make(
    *,
    model: ModelRecord,
    signatures: Mapping[str, SignatureEntry],
    routes: Mapping[str, Route],
    plans: Mapping[str, planning.Plan],
    converted: Mapping[str, ConvertedSignature],
    checks: Mapping[str, Mapping[str, Any]],
    weights: emit.Prepared,
    seconds: float,
    plan: Mapping[str, Any] | None,
    compiled: Mapping[str, emit.Compiled],
    compression: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """report.json: JSON values, one entry a signature; bytes, FLOPs a call, seconds.

    `plan`: how programs lie on several devices, or on one that is elsewhere. `compression`: what
    was held in fewer bits, and what that did.
    """
    return {
        "seconds": round(seconds, 3),
        "plan": None if plan is None else {**plan, "programs": _on_mesh(compiled)},
        "compression": compression,
        "weights": {
            "source_bytes": weights.source_bytes,
            "stored_bytes": sum(a.nbytes for a in weights.arrays.values()),
            "stored": len(weights.arrays),
        },
        "signatures": {
            key: {
                "refused": entry.refused,
                "fallback": entry.fallback.why if entry.fallback else None,
                "unplanned": plans[key].unplanned if key in plans else None,
                "tensorflow_ops": list(model.ops.get(key, ())),
                "notes": list(converted[key].notes) if key in converted else [],
                "against_tensorflow": checks.get(key),
                "programs": _programs(converted.get(key), entry.programs),
                "stages": [
                    _stage(stage, converted.get(stage_key(key, number)))
                    for number, stage in enumerate(entry.stages)
                ],
                **_costs(model, key, entry, routes.get(key), converted),
            }
            for key, entry in signatures.items()
        },
    }


def _on_mesh(compiled: Mapping[str, emit.Compiled]) -> list[dict[str, Any]]:
    return [
        {"key": entry.key, **said}
        for found in compiled.values()
        for entry, said in zip(found.entries, found.reports, strict=True)
        if said is not None
    ]


def _costs(
    model: ModelRecord,
    key: str,
    entry: SignatureEntry,
    route: Route | None,
    converted: Mapping[str, ConvertedSignature],
) -> dict[str, Any]:
    """Segments, what they cost for one example, and the line on it; of none for no programs."""
    if route is None or not (entry.programs or entry.stages):
        return {"segments": [], "device_share": None, "crossing_bytes": None, "summary": None}
    found = costs(key, entry, route, model.counts.get(key, {}), converted)
    return found.to_json() | {"summary": summary(found)}


def _stage(stage: StageEntry, converted: ConvertedSignature | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "where": "device" if stage.host is None else "host",
        "inputs": list(stage.spec.inputs),
        "outputs": list(stage.spec.outputs),
        "programs": _programs(converted, stage.programs),
    }
    if stage.host is not None:
        found |= {
            "executor": stage.host.executor,
            "ops": list(stage.host.ops),
            "why": stage.host.why,
            "rows": stage.host.rows,
        }
    return found


def _programs(
    signature: ConvertedSignature | None, entries: Sequence[ProgramEntry]
) -> list[dict[str, Any]]:
    if signature is None or not entries:
        return []
    return [
        {
            "key": entry.key,
            "input_shapes": {name: list(shape) for name, shape in entry.input_shapes.items()},
            "where": "device",
            "rows": entry.rows,
            "rows_reason": entry.rows_reason,
            "random": entry.random,
            "values": dict(entry.values),
            "equations_lifted": program.ops_lifted,
            "equations_per_request": len(program.split.apply.jaxpr.jaxpr.eqns),
            "equations_prepared": len(program.split.prepare.jaxpr.eqns),
            "passes": program.optimized.to_json(),
            "stats": entry.stats.to_json(),
        }
        for program, entry in zip(signature.programs, entries, strict=True)
    ]
