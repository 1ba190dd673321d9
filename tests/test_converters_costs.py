"""What segments cost for one example, and the line that a person reads of it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from jaxrt.converters.costs import Costs, Segment, costs, crossing
from jaxrt.converters.records import Measured, Stage, Value
from jaxrt.converters.routes import Route
from jaxrt.converters.summary import summary
from jaxrt.manifest import HostEntry, SignatureEntry, StageEntry
from jaxrt.specs import Dim, SignatureSpec, TensorSpec


def segment(where: str, flops: float | None, **more: Any) -> Segment:
    found: dict[str, Any] = {
        "why": "",
        "ops": {},
        "reasons": {},
        "loops": False,
        "uncounted": (),
        "bytes_in": None,
        "bytes_out": None,
    }
    return Segment(where=where, flops=flops, **(found | more))


def looked_up(flops: float | None, **more: Any) -> Segment:
    tables = {"no device has tables": {"LookupTableFindV2": 14}}
    return segment("host, native", flops, **({"reasons": tables} | more))


def of(*segments: Segment, crossing: float | None = 3210.0) -> Costs:
    return Costs(segments=segments, crossing=crossing)


def stage(where: str, takes: str, gives: str, sizes: Mapping[str, float] | None) -> Stage:
    def values(names: str) -> tuple[Value, ...]:
        return tuple(Value(name=name, dtype="float32", shape=(None,)) for name in names.split())

    return Stage(
        where=where,
        inputs=values(takes),
        outputs=values(gives),
        ops=(),
        why="" if where == "device" else "No device has strings: StringLower.",
        rowwise=True,
        counts={"StringLower": 1},
        reasons={} if where == "device" else {"no device has strings": {"StringLower": 1}},
        measured=None if sizes is None else Measured(flops=7.0, uncounted=(), bytes=sizes),
    )


def test_the_share_is_the_devices_part_of_all_operations() -> None:
    assert of(looked_up(8.0), segment("device", 92.0)).device_share == pytest.approx(0.92)
    found = of(looked_up(8.0), segment("device", 90.0), looked_up(0.0), segment("device", 2.0))
    assert found.device_share == pytest.approx(0.92)


def test_the_share_is_unknown_where_a_part_is_and_none_where_nothing_is_computed() -> None:
    assert of(looked_up(None), segment("device", 92.0)).device_share is None
    assert of(looked_up(8.0), segment("device", None)).device_share is None
    assert of(looked_up(0.0), segment("device", 0.0)).device_share is None


def test_a_signature_on_one_side_alone_needs_no_count() -> None:
    assert of(segment("device", None)).device_share == 1.0
    assert of(looked_up(None)).device_share == 0.0
    assert of(segment("host, whole in TensorFlow", None)).device_share == 0.0


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (
            of(looked_up(8.0), segment("device", 92.0)),
            "92 % of FLOPs on device; LookupTableFindV2 ×14 on host (no device has tables); "
            "no TensorFlow needed; 3.2 kB cross per example",
        ),
        (
            of(looked_up(8.0), segment("device", 92.0, loops=True), crossing=0.0),
            "at least 92 % of FLOPs on device; LookupTableFindV2 ×14 on host (no device has "
            "tables); no TensorFlow needed; nothing crosses",
        ),
        (
            of(looked_up(8.0, uncounted=("Einsum",)), segment("device", 92.0), crossing=None),
            "at most 92 % of FLOPs on device; LookupTableFindV2 ×14 on host (no device has "
            "tables); no TensorFlow needed; unknown what crosses",
        ),
        (
            of(looked_up(8.0, uncounted=("Einsum",)), segment("device", 92.0, loops=True)),
            "about 92 % of FLOPs on device; LookupTableFindV2 ×14 on host (no device has "
            "tables); no TensorFlow needed; 3.2 kB cross per example",
        ),
        (
            of(
                segment("host, TensorFlow", 0.0, reasons={"x": {"A": 1, "B": 3, "C": 2, "D": 1}}),
                segment("device", 5.0),
                looked_up(0.0),
            ),
            "100 % of FLOPs on device; LookupTableFindV2 ×14 on host (no device has tables); "
            "B ×3, C ×2, A and 1 more on host (x); TensorFlow runs the host's part; "
            "3.2 kB cross per example",
        ),
        (
            of(segment("host, TensorFlow", None), segment("device", 5.0)),
            "unknown share of FLOPs on device; on host what is cheaper there than what would "
            "cross; TensorFlow runs the host's part; 3.2 kB cross per example",
        ),
        (
            of(looked_up(0.01), segment("device", 92.0, loops=True)),
            "> 99.9 % of FLOPs on device; LookupTableFindV2 ×14 on host (no device has tables); "
            "no TensorFlow needed; 3.2 kB cross per example",
        ),
        (of(segment("device", 5.0)), "100 % of FLOPs on device; nothing on host"),
        (
            of(segment("host, whole in TensorFlow", None, why="It changes tables.")),
            "0 % of FLOPs on device; TensorFlow runs all of it on host (It changes tables)",
        ),
    ],
)
def test_the_line_says_share_ops_reasons_and_what_crosses(found: Costs, line: str) -> None:
    assert summary(found) == line


def test_values_cross_once_for_each_stage_of_the_other_side_that_takes_them() -> None:
    sizes = {"x": 100.0, "a": 8.0, "b": 3.0, "c": 1.0}
    stages = [
        stage("host", "x", "a b", sizes),
        stage("device", "x a", "c", sizes),
        stage("host", "b c", "d", sizes),  # b stays on the host
        stage("device", "a", "e", sizes),
    ]
    assert crossing(stages) == 8.0 + 1.0 + 8.0
    assert crossing(stages[:1]) == 0.0


def test_an_answer_with_the_name_of_an_input_did_not_cross_before_it_was_made() -> None:
    sizes = {"x": 100.0, "a": 8.0}
    assert crossing([stage("host", "x", "a", sizes), stage("device", "x", "x", sizes)]) == 0.0


def test_what_crosses_is_unknown_where_it_was_not_measured() -> None:
    stages = [stage("host", "x", "a", {"a": 4.0}), stage("device", "a", "y", None)]
    assert crossing(stages) is None


SPEC = SignatureSpec(
    inputs={"x": TensorSpec(name="x:0", dtype="float32", dims=(Dim(-1), Dim(4)))},
    outputs={"y": TensorSpec(name="y:0", dtype="string", dims=(Dim(-1),))},
)


def host_entry(executor: str) -> HostEntry:
    why = "No device has strings: StringLower."
    return HostEntry(executor=executor, rows="independent", ops=("StringLower",), why=why)


def test_a_whole_signature_in_tensorflow_has_known_bytes_and_unknown_operations() -> None:
    entry = SignatureEntry(
        spec=SPEC, stages=(StageEntry(spec=SPEC, host=host_entry("saved_model")),)
    )
    found = costs("f", entry, Route(signature="f", whole="why"), {"StringLower": 3}, {})
    assert found.whole
    assert found.device_share == 0.0
    (one,) = found.segments
    assert (one.where, one.flops, one.bytes_in, one.bytes_out) == (
        "host, whole in TensorFlow", None, 16.0, None,
    )  # fmt: skip
    assert one.ops == {"StringLower": 3}


def test_a_host_stage_has_what_its_rehearsal_measured() -> None:
    measured = stage("host", "x", "y", {"x": 16.0, "y": 2.5})
    entry = SignatureEntry(spec=SPEC, stages=(StageEntry(spec=SPEC, host=host_entry("native")),))
    found = costs("f", entry, Route(signature="f", stages=(measured,)), {}, {})
    (one,) = found.segments
    assert (one.where, one.flops, one.bytes_in, one.bytes_out) == ("host, native", 7.0, 16.0, 2.5)
    assert one.reasons == {"no device has strings": {"StringLower": 1}}
    assert found.to_json()["device_share"] == 0.0
    unmeasured = dataclasses.replace(measured, measured=None)
    (one,) = costs("f", entry, Route(signature="f", stages=(unmeasured,)), {}, {}).segments
    assert (one.flops, one.bytes_in, one.bytes_out) == (None, None, None)


def test_a_device_stage_that_was_not_compiled_is_unknown() -> None:
    found = costs("f", SignatureEntry(spec=SPEC), Route(signature="f"), {"MatMul": 2}, {})
    (one,) = found.segments
    assert (one.where, one.flops, one.ops) == ("device", None, {"MatMul": 2})
    assert one.why == "no shape of it was compiled"
