"""Strings, hashes, regular expressions and numbers as text without TensorFlow: its own answers."""

from collections.abc import Callable
from typing import Any

import host_recordings
import numpy as np
import pytest
from host_differences import differences
from host_recordings import Case, Recording, scalar, strings
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.converters.host.farmhash import fingerprint64
from jaxrt.converters.host.ops_number import rounded
from jaxrt.converters.host.siphash import siphash

LETTERS = strings(*(chr(c).encode() for c in range(1, 0x20000) if not 0xD800 <= c < 0xE000))
TEXTS = strings(
    b"", b"a", b"Hello, World", b" \t\n\v\f\r x y \r\n", "Ä ö ß İ ı ΑΣ Σ".encode(),
    "日本語 текст".encode(), "😀e\u0301".encode(), b"\xff\xfeab\x80", b"\xe6\x97", b"a\0b\0",
    b"a,b;;c,", b",,", b"1,2,,3", b"x" * 300,
)  # fmt: skip
LENGTHS = strings(*(bytes((7 * i + n) % 256 for i in range(n)) for n in range(0, 300)))
I32, I64 = np.int32, np.int64


def ints(*values: Any, kind: Any = I32) -> np.ndarray[Any, Any]:
    return np.array(values, kind)


def raw(tf: Any, op: str, *names: str, **attrs: Any) -> Callable[..., Any]:
    """The raw op of its inputs, by their names."""
    rule = getattr(tf.raw_ops, op)
    return lambda *inputs: rule(**dict(zip(names, inputs, strict=True)), **attrs)


def texts(tf: Any) -> dict[str, Case]:
    cube = strings(*(bytes([97 + i]) for i in range(12))).reshape(2, 3, 2)
    found: dict[str, Case] = {
        "StringStrip": (raw(tf, "StringStrip", "input"), [(TEXTS,), (scalar(b" x "),)]),
        "StringJoin": (
            lambda a, b, c: tf.raw_ops.StringJoin(inputs=[a, b, c], separator="-"),
            [
                (TEXTS, scalar(b"+"), TEXTS),
                (scalar(b"a"), scalar(b"b"), scalar(b"")),
                (TEXTS[:2], scalar(b"+"), TEXTS[:3]),
            ],
        ),
    }
    for encoding in ("", "utf-8"):
        for op in ("StringLower", "StringUpper"):
            call = raw(tf, op, "input", encoding=encoding)
            runs = [(TEXTS,), (TEXTS[:0],), (scalar(b"Ab"),), (LETTERS,)]
            found[f"{op} {encoding}"] = (call, runs)
    for unit in ("BYTE", "UTF8_CHAR"):
        found[f"StringLength of {unit}"] = (raw(tf, "StringLength", "input", unit=unit), [(TEXTS,)])
        found[f"Substr of {unit}"] = (raw(tf, "Substr", "input", "pos", "len", unit=unit), cuts())
    for name, axes in {"one": [1], "two": [2, 0], "none": [], "last": [-1]}.items():
        for keep in (False, True):
            found[f"ReduceJoin of {name}, kept: {keep}"] = (
                raw(tf, "ReduceJoin", "inputs", "reduction_indices", separator=",", keep_dims=keep),
                [(cube, np.array(axes, I32))],
            )
    return found


def cuts() -> list[tuple[Any, ...]]:
    words = strings("añb日".encode(), b"hello!!", b"\x80\x80ab")
    both = [
        (words, np.asarray(p, I32), np.asarray(n, I32)) for p in range(-5, 6) for n in (0, 2, 9)
    ]
    each = (words, ints(0, 1, -2), ints(1, 2, 3))
    return [*both, each, (words[:, None], ints(0, 1), ints(1, 1))]


def splits(tf: Any) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for skip in (False, True):
        found[f"StringSplit, skip: {skip}"] = (
            raw(tf, "StringSplit", "input", "delimiter", skip_empty=skip),
            [(TEXTS, scalar(mark)) for mark in (b",", b",;", b" ", b"", b"\n ")],
        )
    for most in (-1, 0, 1, 2, 3):
        found[f"StringSplitV2, at most {most}"] = (
            raw(tf, "StringSplitV2", "input", "sep", maxsplit=most),
            [
                (values, scalar(mark))
                for values in (TEXTS, strings(b"a b", b" a  b c ", b"a", b" ", b"aaaa"))
                for mark in (b"", b",", b" ", b"aa", b",,")
            ],
        )
    data, ends = strings(b"a", b"b", b"c", b"d", b"e"), ints(0, 3, 3, 4, 5, kind=I64)
    for pad in (-1, 0, 1, 2):
        for short in (False, True):
            if short and pad < 0:
                continue
            found[f"StringNGrams padded by {pad}, short: {short}"] = (
                raw(
                    tf,
                    "StringNGrams",
                    "data", "data_splits",
                    separator="|",
                    ngram_widths=[2, 3],
                    left_pad="<",
                    right_pad=">",
                    pad_width=pad,
                    preserve_short_sequences=short,
                ),
                [(data, ends), (data[:0], ends[:1])],
            )  # fmt: skip
    return found


def hashes(tf: Any) -> dict[str, Case]:
    every = np.concatenate([LENGTHS, TEXTS])
    found: dict[str, Case] = {}
    for count in (1, 10, 1000003, 2**62 + 3):
        for op in ("StringToHashBucketFast", "StringToHashBucket"):
            name = "string_tensor" if op == "StringToHashBucket" else "input"
            found[f"{op} {count}"] = (raw(tf, op, name, num_buckets=count), [(every,)])
        found[f"StringToHashBucketStrong {count}"] = (
            raw(tf, "StringToHashBucketStrong", "input", num_buckets=count, key=[-3, 2**62 + 1]),
            [(every,)],
        )
    method = scalar(b"farmhash64")
    found["Fingerprint"] = (
        raw(tf, "Fingerprint", "data", "method"),
        [(every, method), (every[:6].reshape(2, 3), method), (every[:0], method)],
    )
    found["Fingerprint of numbers"] = (
        raw(tf, "Fingerprint", "data", "method"),
        [(np.arange(12, dtype=np.float32).reshape(3, 4), method)],
    )
    return found


def crosses(tf: Any) -> dict[str, Case]:
    indices, shape = ints([0, 0], [0, 1], [2, 0], kind=I64), ints(3, 2, kind=I64)
    words, numbers = strings(b"a", b"bb", b"ccc"), ints(5, -6, 7, kind=I64)
    dense = strings(b"x", b"y", b"z", b"w", b"v", b"u").reshape(3, 2)
    whole = ints([1], [-2], [3], kind=I64)

    def columns(values: Any, others: Any) -> dict[str, Any]:
        return {
            "indices": [indices, indices],
            "values": [values, numbers],
            "shapes": [shape, shape],
            "dense_inputs": [others, whole],
        }

    def cross(values: Any, others: Any) -> Any:
        return tf.raw_ops.SparseCross(
            **columns(values, others), hashed_output=True, num_buckets=1000, hash_key=956888297470,
            out_type=tf.int64, internal_type=tf.int64,
        )  # fmt: skip

    def unbounded(values: Any, others: Any) -> Any:
        return tf.raw_ops.SparseCross(
            **columns(values, others), hashed_output=True, num_buckets=0, hash_key=-7,
            out_type=tf.int64, internal_type=tf.int64,
        )  # fmt: skip

    def joined(values: Any, others: Any) -> Any:
        return tf.raw_ops.SparseCross(
            **columns(values, others), hashed_output=False, num_buckets=0, hash_key=0,
            out_type=tf.string, internal_type=tf.int64,
        )  # fmt: skip

    def second(values: Any, others: Any) -> Any:
        return tf.raw_ops.SparseCrossV2(**columns(values, others), sep="_Y_")

    def hashed(strong: bool, count: int) -> Callable[..., Any]:
        def call(values: Any, others: Any) -> Any:
            found = columns(values, others)
            if strong:
                found["dense_inputs"] = [others]  # TensorFlow crashes over dense numbers
            return tf.raw_ops.SparseCrossHashed(
                **found, num_buckets=count, strong_hash=strong, salt=[137, -137]
            )

        return call

    return {
        "SparseCross": (cross, [(words, dense)]),
        "SparseCross without buckets": (unbounded, [(words, dense)]),
        "SparseCross of text": (joined, [(words, dense)]),
        "SparseCrossV2": (second, [(words, dense)]),
        "SparseCrossHashed": (hashed(False, 0), [(words, dense)]),
        "SparseCrossHashed with buckets": (hashed(False, 100), [(words, dense)]),
        "SparseCrossHashed strongly": (hashed(True, 1000), [(words, dense)]),
    }


PATTERNS = [
    (r"[^a-z]", ""), (r"\s+", " "), (r"(l+)(o)", r"<\2\1\0>"), ("", "-"), ("x*", "-"),
    (r"(?i)HELLO", "bye"), (r"\pL", "L"), (r"[[:punct:]]", ""), (r"^a|b$", r"\\"),
    (r"(a)|(b)", r"[\1\2]"), (r"[!\"#$%&()\*\+,-\./:;<=>?@\[\\\]^_`{|}~\']", ""), (".", r"\1"),
    (r"\C", "c"), ("日?", "-"),
]  # fmt: skip


def patterns(tf: Any) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for pattern, rewrite in PATTERNS:
        for every in (False, True):
            found[f"StaticRegexReplace {pattern} {rewrite} {every}"] = (
                raw(
                    tf,
                    "StaticRegexReplace",
                    "input",
                    pattern=pattern,
                    rewrite=rewrite,
                    replace_global=every,
                ),
                [(TEXTS,)],
            )
        found[f"StaticRegexFullMatch {pattern}"] = (
            raw(tf, "StaticRegexFullMatch", "input", pattern=f"(?s:{pattern}).*"),
            [(TEXTS,)],
        )
    found["RegexReplace"] = (
        raw(tf, "RegexReplace", "input", "pattern", "rewrite"),
        [(TEXTS, scalar(b"[ab]"), scalar(b"_")), (TEXTS, scalar(b"(x"), scalar(b"_"))],
    )
    found["RegexFullMatch"] = (
        raw(tf, "RegexFullMatch", "input", "pattern"),
        [(TEXTS, scalar(b"a.*")), (TEXTS, scalar(b"a**")), (TEXTS, scalar(b"a)"))],
    )
    return found


FORMATS: dict[str, dict[str, Any]] = {
    "": {}, "precise": {"precision": 3}, "scientific": {"scientific": True},
    "shortest": {"shortest": True}, "wide": {"width": 12}, "zeros": {"width": 12, "fill": "0"},
    "left": {"width": 12, "fill": "-"}, "signed": {"width": 12, "fill": "+"},
    "spaced": {"width": 5, "fill": " "}, "short": {"shortest": True, "precision": 2},
}  # fmt: skip


def numbers(tf: Any) -> dict[str, Case]:
    edges = [0.0, -0.0, 1.0, -1.5, 1e-7, 1e10, 123456.789, 1e300, np.inf, -np.inf, np.nan, 0.1]
    found: dict[str, Case] = {}
    for kind in (np.float32, np.float64, np.float16):
        with np.errstate(over="ignore"):
            values = np.array(edges).astype(kind)
        for name, attrs in FORMATS.items():
            found[f"AsString of {np.dtype(kind).name} {name}"] = (
                raw(tf, "AsString", "input", **attrs),
                [(values,)],
            )
    for integer in (np.int8, np.int32, np.int64, np.uint8, np.uint64):
        limits = np.iinfo(integer)
        values = np.array([0, 7, limits.max, limits.min], integer)
        for name in ("", "wide", "zeros"):
            attrs = FORMATS[name]
            found[f"AsString of {np.dtype(integer).name} {name}"] = (
                raw(tf, "AsString", "input", **attrs),
                [(values,)],
            )
    found["AsString of bool"] = (raw(tf, "AsString", "input"), [(np.array([True, False]),)])
    found["AsString of complex64"] = (
        raw(tf, "AsString", "input"),
        [(np.array([1.5 - 2j], np.complex64),)],
    )
    found["AsString of strings"] = (raw(tf, "AsString", "input"), [(TEXTS,)])
    return {**found, **parsed(tf)}


NUMERALS = [
    b"", b" ", b"0", b"1", b"-1", b"+1", b" 12 ", b"\t7\n", b"1.5", b".5", b"5.", b"1e3", b"1E-3",
    b"1e", b"e1", b"1e400", b"-1e400", b"1e-400", b"1e39", b"0x10", b"0X1f", b"0x", b"inf", b"-inf",
    b"Infinity", b"INF", b"nan", b"NaN", b"-nan", b"1_0", b"1,0", b"1 2", b"--1", b"- 1", b"1f",
    b"2147483647", b"2147483648", b"-2147483648", b"-2147483649", b"9223372036854775807",
    b"9223372036854775808", b"-9223372036854775808", b"1.00000005960464477625798673798840354720596",
    b"1.000000059604644776257986737", b"0" * 40 + b"1", b"0.1", b"16777217", b"3.4028236e38",
    b"1e-45", b"1.17549e-38", b"\xff", b"1\0", b"\x001", b"infinit", b"in", b"nan(1)", b"1.5.2",
    b"0x1p3", b"0x1.8p1", b"0x.8", b"-0x10", b"0x1P-2", b"nan()", b"nan(a_b)", b"nan(-)", b"+nan",
    b"0x1e400", b"0x1p5000", b"-0x1p5000", b"0x123456789abcdef01", b"7e-46", b"0x1.000001p0",
    b"0x1.0000010000000000001p0", b"0x1.000003p0", b"1\xa0", b"0x1p", b"1d3", b"9" * 30,
    b"00012", b"-0", b"0b1", b"1.e2", b"+.5e+1", b".", b"-", b"+", b"1e+", b"4294967296", b"255",
]  # fmt: skip


def parsed(tf: Any) -> dict[str, Case]:
    return {
        f"StringToNumber of {kind}": (
            raw(tf, "StringToNumber", "string_tensor", out_type=tf.as_dtype(kind)),
            [(strings(text),) for text in NUMERALS],
        )
        for kind in ("float32", "float64", "int32", "int64", "uint32", "uint64")
    }


def encodings(tf: Any) -> dict[str, Case]:
    coded = [b"", b"YQ", b"YQ==", b"YWI=", b"YWJj", b"_-8", b"+/8", b"YQ=", b"Y", b"Y===", b"YW J"]
    eight = strings(b"\1\2\3\4\5\6\7\x08", b"\xff\0\0\0\0\0\0\0")
    return {
        "EncodeBase64": (raw(tf, "EncodeBase64", "input"), [(TEXTS,)]),
        "EncodeBase64 padded": (raw(tf, "EncodeBase64", "input", pad=True), [(TEXTS,)]),
        "DecodeBase64": (raw(tf, "DecodeBase64", "input"), [(strings(text),) for text in coded]),
        **{
            f"DecodeRaw of {kind} {little}": (
                raw(tf, "DecodeRaw", "bytes", out_type=tf.as_dtype(kind), little_endian=little),
                [(eight,), (eight[:0],), (strings(b"12345"),), (strings(b"1", b"12"),)],
            )
            for kind in ("uint8", "int16", "float32", "float64", "bool", "int64")
            for little in (True, False)
        },
    }


def cases(tf: Any) -> dict[str, Case]:
    groups = (texts, splits, hashes, crosses, patterns, numbers, encodings)
    return {name: case for group in groups for name, case in group(tf).items()}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("string") / "recorded")


def test_every_op_on_strings_gives_tensorflows_bytes(recorded: dict[str, Recording]) -> None:
    assert len(recorded) > 150
    assert not differences(recorded)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=80))
def test_hashes_are_numbers_of_64_bits(first: int, second: int, data: bytes) -> None:
    assert 0 <= fingerprint64(data) < 2**64
    assert siphash(data, first, second) == siphash(data, first - 2**64, second)


@given(st.floats(width=32, allow_nan=False), st.integers(-1, 1))
def test_text_becomes_the_nearest_float32(value: float, step: int) -> None:
    with np.errstate(over="ignore"):
        near = float(np.nextafter(np.float64(value), np.float64(np.inf * step))) if step else value
        assert rounded(repr(near).encode(), np.dtype(np.float32)) == np.float32(near)
