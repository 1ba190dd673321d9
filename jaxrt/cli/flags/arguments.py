"""TensorFlow Serving's spelling of flags, rewritten to the one that click reads."""

import dataclasses
from collections.abc import Mapping, Sequence

import click


@dataclasses.dataclass(frozen=True, slots=True)
class Spelling:
    """How one flag is written."""

    name: str
    """As click knows it, such as `--batch-sizes`."""
    truth: bool = False
    """May stand alone: `--flag` is `--flag=true`."""
    alone: bool = False
    """Takes no value, such as `--help`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Arguments:
    """A command line, taken apart."""

    known: list[str]
    """For click, as `--name=value` where there is a value; then the paths, behind `--`."""
    unknown: list[str]
    """`--flag`, `--flag=value`, or `--flag value` where a word that may be the value follows."""


def take_apart(words: Sequence[str], spellings: Mapping[str, Spelling]) -> Arguments:
    """`spellings` are by name, without dashes in front and with `_` for `-`.

    A long flag may be written with either. The value of a bool stands behind `=`, as TensorFlow's
    parser has it, or is the word `true` or `false` behind the flag. Raises click.UsageError where
    a value is missing.
    """
    known: list[str] = []
    paths: list[str] = []
    unknown: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            paths += rest
            break
        if not word.startswith("-"):
            paths.append(word)
            continue
        name, equals, value = word.partition("=")
        spelling = spellings.get(name.lstrip("-").replace("-", "_"))
        if spelling is None and not word.startswith("--"):
            known.append(word)  # `-oDIR`, or what click refuses
        elif spelling is None:
            takes = not equals and rest and not rest[0].startswith("-")
            unknown.append(f"{word} {rest.pop(0)}" if takes else word)
        elif equals:
            known.append(f"{spelling.name}={value}")
        else:
            known.append(_with_value(spelling, rest))
    return Arguments([*known, "--", *paths], unknown)


def _with_value(spelling: Spelling, rest: list[str]) -> str:
    """The value is taken from `rest`."""
    if spelling.alone:
        return spelling.name
    if spelling.truth and not (rest and rest[0].lower() in ("true", "false")):
        return f"{spelling.name}=true"
    if not rest:
        raise click.BadOptionUsage(spelling.name, f"Option {spelling.name!r} requires an argument.")
    return f"{spelling.name}={rest.pop(0)}"
