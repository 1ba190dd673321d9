"""Files of calibration data, the flags of compression, and how its report is shown."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_tensorflow import signature, tensor

from jaxrt.cli import compressed, compression, pictures
from jaxrt.cli.flags.compression import CompressionFlags
from jaxrt.cli.repeated import repeated
from jaxrt.compression.goals import Goal
from jaxrt.compression.schemes import Scheme
from jaxrt.errors import UsageError

SPECS = {
    "serving_default": signature(x=tensor("float32", None, 2)),
    "words": signature(text=tensor("string", None), n=tensor("int64", None)),
}


def read(path: Path) -> list[tuple[str, dict[str, Any]]]:
    found = compression.source_of(path).read(SPECS)
    return [(r.signature, {a: v.tolist() for a, v in r.inputs.items()}) for r in found]


def test_an_npz_holds_inputs_of_one_signature_or_of_several(tmp_path: Path) -> None:
    plain, several = tmp_path / "plain.npz", tmp_path / "several.npz"
    np.savez(plain, x=np.ones((1, 2), np.float32))
    assert read(plain) == [("serving_default", {"x": [[1, 1]]})]
    arrays: dict[str, Any] = {"words/text": np.array([b"a"]), "words/n": np.array([3])}
    np.savez(several, **arrays)
    assert read(several) == [("words", {"text": [b"a"], "n": [3]})]


def test_json_is_one_rest_request_or_one_a_line(tmp_path: Path) -> None:
    one, lines = tmp_path / "one.json", tmp_path / "many.jsonl"
    one.write_text(json.dumps({"instances": [[1, 2], [3, 4]]}, indent=1))
    assert read(one) == [("serving_default", {"x": [[1, 2], [3, 4]]})]
    words = {"signature_name": "words", "inputs": {"text": ["a"], "n": [3]}}
    lines.write_text(f"{json.dumps(words)}\n\n{json.dumps({'inputs': [[5, 6]]})}\n")
    assert read(lines) == [
        ("words", {"text": [b"a"], "n": [3]}),
        ("serving_default", {"x": [[5, 6]]}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b'{"instances": 3}', "a.json: line 1: it is no REST predict request"),
        ("a.jsonl", b'{"inputs": [[1, 2]]}\n{"input": 1}\n', "a.jsonl: line 2: it is no REST"),
        ("a.bin", b"nothing known", "a.bin: found none of its formats, want .npz, JSON"),
        ("a.npz", b"PK\x03\x04 broken", "a.npz: numpy does not read it"),
    ],
)
def test_other_files_are_refused_in_one_line(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_arrays_of_no_signature_are_refused_with_those_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, y=np.ones(1))
    with pytest.raises(UsageError, match="found arrays y, want those .* serving_default: x"):
        read(path)


def test_single_weights_are_not_pruned_and_a_share_of_channels_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--prune 2:4: no target .* want a share of whole channel"):
        compression.wanted(CompressionFlags(prune="2:4"), tmp_path)


def test_a_missing_file_is_said_before_anything_is_compiled(tmp_path: Path) -> None:
    flags = CompressionFlags(compress="int8", calibration=str(tmp_path / "none.npz"))
    with pytest.raises(UsageError, match="none.npz: no such file; want .npz, JSON"):
        compression.wanted(flags, tmp_path)


def test_flags_say_what_is_wanted(tmp_path: Path) -> None:
    assert compression.wanted(CompressionFlags(), tmp_path) is None
    automatic = compression.wanted(CompressionFlags(allow_compression=True), tmp_path)
    assert automatic is not None and automatic.scheme is None
    assert automatic.limit.max_error == 0.01
    flags = CompressionFlags(
        compress="int4", compress_rules=("head=float",), max_error="0.5%", goal="size"
    )
    wanted = compression.wanted(flags, tmp_path)
    assert wanted is not None and wanted.goal is Goal.SIZE and wanted.scheme is Scheme.INT4
    assert wanted.limit.max_error == pytest.approx(0.005)
    assert [rule.to_json() for rule in wanted.rules] == [{"pattern": "head", "scheme": "float"}]
    rules_alone = compression.wanted(CompressionFlags(compress_rules=("a=int8",)), tmp_path)
    assert rules_alone is not None and rules_alone.scheme is Scheme.FLOAT
    with pytest.raises(UsageError, match="--max-error: nothing is compressed; add --compress"):
        compression.wanted(CompressionFlags(max_error="1%"), tmp_path)


def report() -> dict[str, Any]:
    error = {"output": "y", "max_error": 0.5, "rms": 0.01, "sqnr_db": 40.0, "agreement": 0.99}
    layer = {"layer": "dense/kernel", "kind": "dot", "shape": [64, 64], "scheme": "int8"}
    return {
        "compression": {
            "asked": {"budget": {"max_error": 0.005, "min_agreement": None}},
            "budget": "error ≤ 0.5 %",
            "dropped": None,
            "calibration": {
                "said": "made-up inputs",
                "made_up": ["serving_default"],
                "rows": {"serving_default": 64},
                "rows_tried": 32,
                "estimated": False,
            },
            "notes": ["a note"],
            "bytes_before": 16384,
            "bytes_after": 4352,
            "layers": [
                {**layer, "bytes_before": 16384, "bytes_after": 4352, "error": error, "why": ""}
            ],
            "outputs": {"serving_default": [error]},
            "points": [{"bytes": 4352, "error": 0.01, "agreement": 0.99}],
            "pruned": None,
            "speed": [],
        },
        "signatures": {"serving_default": {"programs": [{}], "stages": []}},
    }


def test_a_line_says_what_was_compressed_and_what_that_did() -> None:
    assert compressed.compression_summary(report()) == (
        "compressed: 1 of 1 layers (int8 ×1); weights 16.4 kB → 4.4 kB (0.266x); worst error 1 % "
        "RMS (signature 'serving_default', output 'y'), agreement ≥ 99 %, on made-up inputs, 64 "
        "rows"
    )
    assert compressed.compression_summary({"compression": None}) is None


def test_a_line_says_why_nothing_is_compressed() -> None:
    def said(signature: dict[str, Any] | None = None, **changed: Any) -> str | None:
        found = report()
        found["compression"] |= changed
        found["signatures"] = {"f": signature or {"programs": [{}], "stages": []}}
        *_, last = compressed.compression_lines(found)
        assert compressed.compression_summary(found) == last
        return last

    assert said(dropped="f x[1] would be slower") == "nothing is compressed: f x[1] would be slower"
    assert said(layers=[]) == (
        "nothing is compressed: no program has a matrix of weights that takes more than its scales "
        "would save"
    )
    assert said({"programs": [], "stages": []}, layers=[]) == (
        "nothing is compressed: TensorFlow runs all of the model, with the weights as they are"
    )
    left = [
        {"scheme": "float", "why": why} for why in ("the budget: 1 %", "the budget: 1 %", "other")
    ]
    assert said(layers=left) == "nothing is compressed: the budget: 1 %, and for other reasons"


def named(*names: str, **changed: Any) -> list[dict[str, Any]]:
    (layer,) = report()["compression"]["layers"]
    return [{**layer, "layer": name, **changed} for name in names]


def test_layers_that_a_model_repeats_are_one_line() -> None:
    keys = [f"attention_{n}/key/kernel" for n in range(1, 12)]
    convolutions = [f"conv2d_{n}/kernel" for n in range(9)]
    layers = [*named("attention/key/kernel", *keys, *convolutions), *named("head/kernel")]
    layers[3] = layers[3] | {"error": {**layers[3]["error"], "rms": 0.5}}
    layers[5] = layers[5] | {"scheme": "float", "why": "the budget"}
    first, other, convolution, head = repeated(layers)
    assert first["layer"] == "attention_*/key/kernel ×11" and first["error"]["rms"] == 0.5
    assert (first["bytes_before"], first["bytes_after"]) == (11 * 16384, 11 * 4352)
    assert (other["layer"], other["scheme"]) == ("attention_5/key/kernel", "float")
    assert (convolution["layer"], head["layer"]) == ("conv2d_*/kernel ×9", "head/kernel")
    assert repeated(layers[:20]) == layers[:20]  # few are shown as they are


def test_made_up_inputs_are_said_aloud() -> None:
    note, last = compressed.compression_lines(report())
    assert last.startswith("NOBODY BROUGHT CALIBRATION DATA") and "'serving_default'" in last
    assert note == "a note"
    assert list(compressed.compression_lines({})) == []


def test_tables_show_layers_and_outputs() -> None:
    titles = [str(table.title) for table in compressed.compression_tables(report())]
    said = "1 of 1 layers (int8 ×1); weights 16.4 kB → 4.4 kB (0.266x); budget: error ≤ 0.5 %"
    assert said in titles[0]
    assert "made-up inputs: 64 rows, layers alone on 32 of 64" in titles[1]
    assert compressed.compression_tables({"compression": None}) == []


def test_a_plot_draws_size_against_error_and_the_budget(tmp_path: Path) -> None:
    pictures.write(report(), tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn.count("<circle") == 3 and "budget 0.5 %" in drawn
    assert ">taken: 4.4 kB, 1 %<" in drawn and ">float: 16.4 kB<" in drawn
    with pytest.raises(UsageError, match="has nothing to draw"):
        pictures.write({}, tmp_path / "b.svg")
    with pytest.raises(UsageError, match="want a file that ends in .svg"):
        pictures.write(report(), tmp_path / "b.png")
