"""Options that several commands share, and how their texts become values."""

import click

from jaxrt.buckets import Buckets
from jaxrt.cli.flags.flag import Flag, Section, group, truth
from jaxrt.errors import UsageError

BATCH_SIZES = "1,8,32"
"""Buckets when nobody chooses: one request alone, a small and a full batch."""

AUTOTUNE_DEFAULT = "fast"
AUTOTUNE = ("off", AUTOTUNE_DEFAULT, "full")
"""`jaxrt.tuning.tuner.Autotune`, whose import would load jax."""

PRECISION_DEFAULT = "auto"
PRECISIONS = (PRECISION_DEFAULT, "f32", "tf32", "bf16")
"""`jaxrt.passes.precision.Precision`, likewise."""

UNOPTIMIZED = (
    "--disable_optimizer: TensorFlow runs every signature WHOLE, on the CPU, one request at a "
    "time; nothing is compiled and nothing runs on the device"
)
"""What the log says of it, loudly."""


COMPILING = Section(
    "Compiling SavedModels",
    "A SavedModel is compiled before it is served, into a cache: one program for each signature "
    "and batch size. An artifact of `jaxrt compile` brings its programs along.",
)

compile_options = group(
    click.option(
        "--batch-sizes",
        cls=Flag,
        section=COMPILING,
        default=BATCH_SIZES,
        show_default=True,
        metavar="N,N,...",
        help="Batch sizes to compile (allowed_batch_sizes). A request is padded to the "
        "next one; one above the largest is split.",
    ),
    click.option(
        "--shape",
        "shapes",
        cls=Flag,
        section=COMPILING,
        multiple=True,
        metavar="NAME[,NAME]=SIZE,...",
        help="Sizes of unknown dimensions beyond the batch: --shape ids,mask=64,128 "
        "compiles both inputs at 64 and at 128; --shape image=48x64 fills two "
        "dimensions. May be given several times.",
    ),
    click.option(
        "--saved_model_tags",
        "--tags",
        "tags",
        cls=Flag,
        section=COMPILING,
        default="serve",
        show_default=True,
        metavar="TAG,...",
        help="Which MetaGraph of the SavedModel.",
    ),
    click.option(
        "--autotune",
        cls=Flag,
        section=COMPILING,
        type=click.Choice(AUTOTUNE),
        default=AUTOTUNE_DEFAULT,
        show_default=True,
        help="How convolutions are lowered: by rules, by timing those in doubt on the "
        "device, or by timing every candidate. Choices are kept and found again.",
    ),
    click.option(
        "--disable-pass",
        "disabled_passes",
        cls=Flag,
        section=COMPILING,
        multiple=True,
        metavar="NAME",
        help="Leave out one optimization: resize, batch-norm, convolutions, winograd, "
        "blocks, slices, one-kernel, lanes, vector-dots or top-k. May be given several times.",
    ),
    click.option(
        "--precision",
        cls=Flag,
        section=COMPILING,
        type=click.Choice(PRECISIONS),
        default=PRECISION_DEFAULT,
        show_default=True,
        help="Of float32 products, convolutions and embedding tables: auto is bf16 on a TPU, "
        "tf32 on a GPU, f32 on a CPU. Sums, inputs and outputs stay float32; the report says how "
        "far each output is from TensorFlow's.",
    ),
    click.option(
        "--keep-f32",
        "keep_f32",
        cls=Flag,
        section=COMPILING,
        multiple=True,
        metavar="REGEX",
        help="Weights whose products stay float32, by their names: --keep-f32 'head/'. May be "
        "given several times.",
    ),
    click.option(
        "--disable_optimizer",
        cls=Flag,
        section=COMPILING,
        type=truth,
        default=False,
        metavar="true|false",
        help="Compile nothing: TensorFlow runs every signature as it is, on the CPU.",
    ),
)
"""What decides which programs are compiled from a SavedModel."""

verbose_option = click.option(
    *("-v", "--verbose"),
    cls=Flag,
    type=truth,
    default=False,
    metavar="true|false",
    help="Log more.",
)


def buckets(text: str) -> Buckets:
    """`1,8,64` → Buckets; raises UsageError."""
    try:
        return Buckets(sizes=tuple(int(n) for n in text.split(",")))
    except ValueError:
        raise UsageError(
            f"--batch-sizes {text!r}: want increasing whole numbers from 1 up, such as "
            f"{BATCH_SIZES}"
        ) from None


def tag_list(text: str) -> tuple[str, ...]:
    return tuple(sorted(tag for tag in text.split(",") if tag))
