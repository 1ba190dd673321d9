"""What compression did, as tables and lines."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from jaxrt.cli.console import table
from jaxrt.cli.repeated import repeated
from jaxrt.compression.budget import spell
from jaxrt.units import size

MADE_UP = (
    "NOBODY BROUGHT CALIBRATION DATA: errors and agreements of {} are on MADE-UP inputs, which say "
    "little about real ones; pass --calibration FILE"
)


def compression_tables(report: Mapping[str, Any], *, whole: bool = False) -> list[Table]:
    """Layers, outputs and times; none where nobody asked for compression.

    `whole`: layers that a model repeats are shown each for itself.
    """
    found = report.get("compression")
    if not found:
        return []
    tables = []
    if layers := found["layers"]:
        columns = ["layer", "", "scheme", "before", "after", "max error", "RMS error", "SQNR"]
        title = f"Compression: {_held(found)}; budget: {found['budget']}"
        rows = [_layer(layer) for layer in (layers if whole else repeated(layers))]
        rows += [_other(one) for one in found.get("others", ())]
        tables.append(table(title, [*columns, "why"], rows))
    if pruned := found["pruned"]:
        tables += _channels(pruned)
    if outputs := [[key, *_output(e)] for key, es in found["outputs"].items() for e in es]:
        columns = ["signature", "output", "max error", "RMS error", "SQNR", "agreement"]
        tables.append(table(f"Against TensorFlow, {_data(found)}", columns, outputs))
    if speeds := [_speed(speed) for speed in found["speed"]]:
        columns = ["program", "input shapes", "float", "compressed", "rows/s", "rows/s", "as fast"]
        tables.append(table("Time of a call before and after", columns, speeds))
    return tables


def _other(one: Mapping[str, Any]) -> list[str]:
    """A large weight that is no layer."""
    return [one["weight"], "", "float", *[size(one["bytes"])] * 2, "", "", "", one["why"]]


def _channels(pruned: Mapping[str, Any]) -> list[Table]:
    """By the weights that have them in common; none where no channel was taken."""
    before, after = pruned["bytes_before"], pruned["bytes_after"]
    saved = 1 - pruned["flops_after"] / pruned["flops_before"] if pruned["flops_before"] else 0.0
    error = "" if pruned["error"] is None else f", error {spell(float(pruned['error']['rms']))}"
    title = (
        f"Channels taken: weights {size(before)} → {size(after)}, "
        f"{spell(saved)} of the operations{error}"
    )
    columns = ["weight:dimension", "channels", "left", "dead", "filled by", "error alone"]
    rows = [_group(one) for one in pruned["channels"]]
    return [table(title, columns, rows)] if rows else []


def _group(one: Mapping[str, Any]) -> list[str]:
    alone = spell(float(one["error"]["rms"])) if one["error"] else ""
    counts = [str(one[name]) for name in ("before", "after", "dead")]
    dims = one["weights"].split(", ")
    more = f" and {len(dims) - 1} more" if len(dims) > 1 else ""
    return [f"{dims[0]}{more}", *counts, one["filled"], alone]


def compression_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What is to be said aloud."""
    found = report.get("compression")
    if not found:
        return
    yield from compression_notes(report)
    if (why := _nothing(found, report)) is not None:
        yield f"nothing is compressed: {why}"
    elif (aloud := made_up_line(report)) is not None:
        yield aloud


def compression_notes(report: Mapping[str, Any]) -> list[str]:
    """What was left out and taken back, and why."""
    found = report.get("compression")
    if not found:
        return []
    return [*found["notes"], *(found["pruned"]["notes"] if found["pruned"] else ())]


def made_up_line(report: Mapping[str, Any]) -> str | None:
    """None where calibration data were brought."""
    found = report.get("compression")
    if not found or not found["calibration"]["made_up"]:
        return None
    return MADE_UP.format(", ".join(map(repr, found["calibration"]["made_up"])))


def compression_summary(report: Mapping[str, Any]) -> str | None:
    """One line: what became smaller, how much, and what it did to the answers on which data.

    None where nobody asked for compression.
    """
    found = report.get("compression")
    if not found:
        return None
    if (why := _nothing(found, report)) is not None:
        return f"nothing is compressed: {why}"
    return f"compressed: {_held(found)}; {_worst(found)}"


def _worst(found: Mapping[str, Any]) -> str:
    """`worst error 0.9 % ('serving_default' output 'y'), agreement ≥ 99 %, on FILE, 64 rows`."""
    data = found["calibration"]
    errors = [(float(e["rms"]), key, e) for key, es in found["outputs"].items() for e in es]
    if not errors:
        return "its errors are not known: no answers could be compared"
    rms, key, worst = max(errors, key=lambda error: error[0])
    said = f"worst error {spell(rms)} RMS (signature {key!r}, output {worst['output']!r})"
    agreements = [float(e["agreement"]) for _, _, e in errors if e["agreement"] is not None]
    agreement = f", agreement ≥ {spell(min(agreements))}" if agreements else ""
    return f"{said}{agreement}, on {data['said']}, {sum(data['rows'].values())} rows"


def _held(found: Mapping[str, Any]) -> str:
    """`60 of 75 layers (int8 ×50, int4 ×10), weights 417.9 MB → 110.2 MB (0.264x)`."""
    kept = Counter(x["scheme"] for x in found["layers"] if x["scheme"] != "float")
    schemes = ", ".join(f"{scheme} ×{count}" for scheme, count in kept.most_common())
    before, after = found["bytes_before"], found["bytes_after"]
    counted = f"{kept.total()} of {len(found['layers'])} layers"
    counted += f" ({schemes})" if schemes else ""
    channels = found["pruned"]["channels"] if found["pruned"] else ()
    taken = sum(one["before"] - one["after"] for one in channels)
    pruned = f", {taken} channels taken" if taken else ""
    return f"{counted}{pruned}; weights {size(before)} → {size(after)} ({_ratio(after, before)})"


def _nothing(found: Mapping[str, Any], report: Mapping[str, Any]) -> str | None:
    """Why all weights are as they were; None where some are not."""
    pruned = found["pruned"] and found["pruned"]["channels"]
    if found["dropped"]:
        return None if pruned else str(found["dropped"])
    if pruned or any(layer["scheme"] != "float" for layer in found["layers"]):
        return None
    if not found["layers"]:
        parts = [p for one in report["signatures"].values() for p in (one, *one["stages"])]
        if not any(part["programs"] for part in parts):
            return "TensorFlow runs all of the model, with the weights as they are"
        return "no program has a matrix of weights that takes more than its scales would save"
    (why, _), *others = Counter(layer["why"] for layer in found["layers"]).most_common()
    return f"{why}, and for other reasons" if others else str(why)


def _data(found: Mapping[str, Any]) -> str:
    data = found["calibration"]
    rows = sum(data["rows"].values())
    tried = data["rows_tried"]
    alone = (
        f"layers that are alike tried together on {tried} of {rows}"
        if data["estimated"]
        else f"layers alone on {tried} of {rows}"
    )
    return f"{data['said']}: {rows} rows, {alone}"


def _layer(layer: Mapping[str, Any]) -> list[str]:
    error = layer["error"]
    told = ["", "", ""] if error is None else _errors(error)
    return [
        layer["layer"],
        layer["kind"],
        layer["scheme"],
        size(layer["bytes_before"]),
        size(layer["bytes_after"]),
        *told,
        layer["why"],
    ]


def _errors(error: Mapping[str, Any]) -> list[str]:
    """JSON spells inf."""
    return [
        f"{float(error['max_error']):.3g}",
        spell(float(error["rms"])),
        f"{float(error['sqnr_db']):.1f} dB",
    ]


def _output(error: Mapping[str, Any]) -> list[str]:
    agreement = error["agreement"]
    return [error["output"], *_errors(error), "" if agreement is None else spell(agreement)]


def _speed(speed: Mapping[str, Any]) -> list[str]:
    return [
        speed["part"],
        speed["shapes"],
        _time(speed["latency_before"]),
        _time(speed["latency_after"]),
        f"{speed['throughput_before']:.0f}",
        f"{speed['throughput_after']:.0f}",
        f"{speed['times_as_fast']:.2f}x",
    ]


def _time(seconds: float) -> str:
    return f"{1e6 * seconds:.0f} µs" if seconds < 1e-3 else f"{1e3 * seconds:.2f} ms"


def _ratio(after: float, before: float) -> str:
    return f"{after / before:.3f}x" if before else "-"
