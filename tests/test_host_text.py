"""Text taken apart and put together without TensorFlow: Unicode, CSV, templates."""

from typing import Any

import host_recordings
import numpy as np
import pytest
from host_differences import differences
from host_recordings import Case, Recording, scalar, strings

Array = np.ndarray[Any, Any]
I32, I64 = np.int32, np.int64

TEXTS = strings(
    b"", b"a", "añ日😀\ufeffb".encode(), "\ufeffx".encode(), b"a\0b\x1f\n", b"\xff\xfeab\x80",
    b"\xe6\x97", b"\xf0\x9f\x98", b"\xe6\x97a", b"\xc0\x80", b"\xed\xa0\x80x", b"\xf4\x90\x80\x80",
    b"\xf0\x9f\xf0\x9f\x98\x80", b"\xe2\x28\xa1", b"\xf8\x88\x80\x80\x80", b"\x80\x80a", b"\xc3",
)  # fmt: skip
WIDE = strings(
    "añ日😀".encode("utf-16-be"), b"", b"\0", b"\0a\0", b"\xd8\0", b"\xd8\0\0a", b"\xdc\0\xd8\0",
    b"\xfe\xff\0a", b"\xff\xfea\0", b"\xd8\x3d\xde\0\0", b"\xd8\x3d\xde",
)  # fmt: skip
WIDER = strings(
    "añ日😀".encode("utf-32-be"), b"", b"\0\0", b"\0\0\0", b"\0\x11\0\0", b"\0\0\xd8\0",
    b"\0\0\xfe\xff\0\0\0a", b"\0\0\0a\0", b"\xff\xff\xff\xff\0\0\0b",
)  # fmt: skip
ERRORS = ("replace", "ignore", "strict")


def _decoding(tf: Any) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for name, values in {"UTF-8": TEXTS, "UTF-16-BE": WIDE, "UTF-32-BE": WIDER}.items():
        single = [(values[i : i + 1],) for i in range(len(values))]
        for errors in ERRORS:
            for control, splits in ((False, tf.int64), (True, tf.int64)):
                options = dict(
                    errors=errors, replacement_char=63, replace_control_characters=control
                )
                runs: list[Any] = [(values,), *single, (values[:0],)]
                title = f"{name} {errors} {control}"
                found[f"decode {title}"] = (
                    lambda x, n=name, s=splits, o=options: tf.raw_ops.UnicodeDecodeWithOffsets(
                        input=x, input_encoding=n, Tsplits=s, **o
                    ),
                    runs,
                )
                for out in ("UTF-8", "UTF-16-BE", "UTF-32-BE"):
                    found[f"transcode {title} {out}"] = (
                        lambda x, n=name, o=options, out=out: tf.raw_ops.UnicodeTranscode(
                            input=x, input_encoding=n, output_encoding=out, **o
                        ),
                        runs,
                    )
    found["decode"] = (
        lambda x: tf.raw_ops.UnicodeDecode(input=x, input_encoding="utf8"),
        [(TEXTS,), (TEXTS[1:5].reshape(2, 2),), (scalar(b"ab"),)],
    )
    return found


def _encoding(tf: Any) -> dict[str, Case]:
    points = np.array(
        [97, 0x1F600, 0x10FFFF, 0x110000, -1, 0xD83D, 0xDE00, 0xD800, 0xFFFE, 0xFDD0], I32
    )
    runs: list[Any] = [
        (points, np.array(splits, I64))
        for splits in (
            [0, 3, 3, 10],
            [0, 10],
            [0],
            [0, 6, 10],
            [0, 2],
            [1, 2],
            [0, 3, 2],
            [0, 99],
            [0, 5, 3, 10],
        )
    ]
    found: dict[str, Case] = {}
    for errors in ERRORS:
        for out in ("UTF-8", "UTF-16-BE", "UTF-32-BE"):
            found[f"encode {errors} {out}"] = (
                lambda v, s, e=errors, o=out: tf.raw_ops.UnicodeEncode(
                    input_values=v, input_splits=s, errors=e, output_encoding=o
                ),
                runs,
            )
    return found


def _formats(tf: Any) -> dict[str, Case]:
    arrays: list[Array] = [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7,
        np.array([True, False]),
        np.arange(20, dtype=I64),
        np.zeros((2, 0, 3), np.float64),
        strings(b'a"b', b"\xff\n", "日".encode(), b"c", b"d", b"e", b"f").reshape(7, 1),
        np.array(1.5, np.float16),
        np.array([1e30, np.nan, -np.inf, 1 / 3], np.float64),
        np.arange(64, dtype=np.int8).reshape(8, 8),
        scalar(b"x"),
        np.array([1 + 2j], np.complex64),
    ]
    found: dict[str, Case] = {}
    for at, array in enumerate(arrays):
        for edge in (3, -1, 1):
            found[f"format {at} {edge}"] = (
                lambda x, e=edge: tf.raw_ops.StringFormat(
                    inputs=[x, x], template="<{}, {}>", placeholder="{}", summarize=e
                ),
                [(array,)],
            )
    words = strings(*(bytes([97 + i]) for i in range(8)))
    found["joined segments"] = (
        lambda x, i, n: tf.raw_ops.UnsortedSegmentJoin(
            inputs=x, segment_ids=i, num_segments=n, separator=":"
        ),
        [
            (words, np.array([2, 0, 2, 0, 1, 2, 0, 0], I32), I32(4)),
            (words, np.array([2, 0, 2, 0, 9, 2, 0, 0], I32), I32(4)),
            (words[:0], np.zeros(0, I32), I32(2)),
            (words.reshape(4, 2), np.array([2, 0, 2, 1], I32), I32(3)),
            (words, np.array([2, -1, 2, 0, 1, 2, 0, 0], I32), I32(4)),
        ],
    )
    return found


LINES = strings(
    b"1,2,3.5,4.5,x", b' 7 ,-8,inf,nan,"a ""b"", c"', b",,,,", b'"1","2","3","4","5"',
    b"NA,NA,NA,NA,NA", b"1,2,3,4,\xff\0\n", b"\n1,2,3,4,5", b"1,2,3,4,5\n",
)  # fmt: skip
BAD_LINES = (
    b"1,2,3,4", b"1,2,3,4,5,6", b"", b"a,2,3,4,5", b"3000000000,2,3,4,5", b"1,2,3x,4,5", b'""',
    b'1,2,3,4,"5', b'1,2,3,4,a"b', b'1,2,3,4,"a"b"', b'1,2,3,4,"a"b', b"1,2\n,3,4,5", b'"',
    b'"1",2,3,4,"', b"1,2,3,4x,5", b"1,9223372036854775808,3,4,5", b'1,2,3,4,""', b'1,2,3,4,"',
    b"\n", b"1,2,3,4,\r",
)  # fmt: skip


def _csv(tf: Any) -> dict[str, Case]:
    types = (tf.int32, tf.int64, tf.float32, tf.float64, tf.string)

    def decode(given: tuple[Any, ...], **options: Any) -> Any:
        def call(x: Any) -> Any:
            defaults = [tf.constant(g, t) for g, t in zip(given, types, strict=True)]
            return tf.raw_ops.DecodeCSV(records=x, record_defaults=defaults, **options)

        return call

    some = ([5], 6, [7.5], [8.5], ["none"])
    none: tuple[Any, ...] = ([], [], [], [], [])
    good, bad = [(LINES[i : i + 1],) for i in range(8)], [(strings(line),) for line in BAD_LINES]
    every: list[Any] = [*good, *bad, (LINES[:5].reshape(5, 1),), (LINES[:0],), (scalar(LINES[0]),)]
    chosen: list[Any] = [
        (strings(line),)
        for line in (b"1,2", b"1,2,3,4,5,6,7", b"1,2,3,4,5,6", b",,,,,,,", b'a,b,"c",d,5,6,7,8')
    ]
    tabs = [(strings(line),) for line in (b"1\t2\t3\t4\t5", b'1\t2\t3\t4\t"', b'1\t"2\t3\t4\t5')]
    semi = [(strings(line),) for line in (b'1;2;3;4;"a;b"', b"1;2;3;4;5;", b"1,2,3,4,5")]
    return {
        "csv": (decode(some), every),
        "csv, required": (decode(none), every),
        "csv, NA": (decode(some, na_value="NA"), every),
        "csv of tabs": (decode(some, field_delim="\t", use_quote_delim=False), [*tabs, *bad]),
        "csv of semicolons": (decode(some, field_delim=";"), semi),
        "csv of columns": (decode(some, select_cols=[0, 2, 3, 5, 6]), [*every, *chosen]),
    }


def cases(tf: Any) -> dict[str, Case]:
    return {**_decoding(tf), **_encoding(tf), **_formats(tf), **_csv(tf)}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("text") / "recordings")


def test_text_is_taken_apart_and_joined_as_by_tensorflow(
    recordings: dict[str, Recording],
) -> None:
    assert not differences(recordings)
