"""Flags that hold weights in fewer bits, and what they were set to."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import click

from jaxrt.cli.flags.flag import Section, flag, group

COMPRESSION = Section(
    "Compression",
    "Weights of SavedModels in fewer bits. What it does to the answers is measured on calibration "
    "data, by layer and by output, and stands in the report; a budget leaves layers that cost too "
    "much of it in float. To begin with: --allow_compression --calibration requests.jsonl; for the "
    "fewest bytes: --compress int8 --optimize size; within a budget: --compress int4 --max-error "
    "0.5% --min-agreement 99.9%. By default nothing is compressed.",
)

SCHEMES = ("auto", "int8", "int4", "w8a8", "fp8", "bf16")
"""`jaxrt.compression.schemes.Scheme`, whose import would load jax."""

GOALS = ("throughput", "latency", "size")
"""`jaxrt.compression.goals.Goal`, likewise."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CompressionFlags:
    """As given; None and (): not given."""

    allow_compression: bool = False
    compress: str | None = None
    compress_rules: tuple[str, ...] = ()
    prune: str | None = None
    max_error: str | None = None
    min_agreement: str | None = None
    calibration: str | None = None
    goal: str = GOALS[0]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From a command's values, or from JSON; other names in it are let pass."""
        names = [field.name for field in dataclasses.fields(cls)]
        found = {name: values[name] for name in names if name in values}
        return cls(**found | {"compress_rules": tuple(found.get("compress_rules", ()))})

    @classmethod
    def taken(cls, values: dict[str, Any]) -> Self:
        """As `of`; names that are of compression alone are taken out of `values`."""
        found = cls.of(values)
        for field in dataclasses.fields(cls):
            if field.name != "goal":
                values.pop(field.name, None)
        return found

    @property
    def asks(self) -> bool:
        """Whether anything is to be compressed."""
        named = (self.compress, self.prune, *self.compress_rules)
        return self.allow_compression or any(value is not None for value in named)


compression_options = group(
    flag(
        "allow_compression",
        COMPRESSION,
        default=False,
        help="As --compress auto: what suits the device, within the budget.",
    ),
    flag(
        "compress",
        COMPRESSION,
        type=click.Choice(SCHEMES),
        help="How weights are held: int8 by channel, int4 by group, w8a8 with activations in int8 "
        "too, fp8, bf16; or auto, what suits the device. Layers that get slower by it stay float "
        "unless --optimize size.",
    ),
    flag(
        "compress-rule",
        COMPRESSION,
        variable="compress_rules",
        multiple=True,
        metavar="REGEX=SCHEME",
        help="What becomes of layers by their names, whatever the budget: --compress-rule "
        "'head/=float'. The first that is found in a name holds. May be given several times.",
    ),
    flag(
        "prune",
        COMPRESSION,
        metavar="SHARE",
        help="How many of the channels between two layers may go, the weakest first, with all that "
        "hangs on them, such as 25%: as far as the budget lets them. Channels that change nothing "
        "go wherever anything is compressed.",
    ),
    flag(
        "max-error",
        COMPRESSION,
        metavar="SHARE",
        help="Budget: the relative RMS error of every output, such as 0.5%. With auto and neither "
        "budget 1% and an agreement of 99%.",
    ),
    flag(
        "min-agreement",
        COMPRESSION,
        metavar="SHARE",
        help="Budget: rows whose largest value along the last axis stays the same, such as 99.9%.",
    ),
    flag(
        "calibration",
        COMPRESSION,
        metavar="FILE",
        help="Requests to measure on: .npz (input → array, or signature/input), JSON or JSON lines "
        "of REST predict requests, or a TFRecord file of PredictionLogs. Without it the warm-up "
        "file of the SavedModel, else made-up inputs.",
    ),
)
