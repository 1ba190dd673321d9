"""Commands whose flags are TensorFlow Serving's: its spelling, and a `--help` in sections."""

import difflib

import click

from jaxrt.cli.flags.arguments import Spelling, take_apart
from jaxrt.cli.flags.flag import Flag, Section

UNKNOWN = f"{__name__}.unknown"
"""In `ctx.meta`: the arguments that nobody knows."""


class FlagCommand(click.Command):
    """Takes `--flag=value`, `--flag value` and TensorFlow's bools."""

    lenient = False
    """Whether unknown flags are put aside, rather than refused."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            found = take_apart(args, self._spellings(ctx))
        except click.UsageError as error:
            error.ctx = ctx  # whose usage is printed
            raise
        ctx.meta[UNKNOWN] = found.unknown
        refused = [] if self.lenient else [word.split(" ")[0] for word in found.unknown]
        return super().parse_args(ctx, [*refused, *found.known])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Flags below the titles and texts of their sections; those without one come last."""
        parts: dict[Section | None, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                section = parameter.section if isinstance(parameter, Flag) else None
                parts.setdefault(section, []).append(record)
        for section in sorted(parts, key=lambda section: section is None):
            with formatter.section(section.title if section is not None else "Options"):
                if section is not None:
                    formatter.write_text(section.text)
                    formatter.write_paragraph()
                formatter.write_dl(parts[section])

    def _spellings(self, ctx: click.Context) -> dict[str, Spelling]:
        found = {}
        for parameter in self.get_params(ctx):
            if not isinstance(parameter, click.Option):
                continue
            truth = isinstance(parameter, Flag) and parameter.is_truth
            alone = parameter.is_flag or parameter.count
            for names in (parameter.opts, parameter.secondary_opts):
                for name in names:
                    long = name if name.startswith("--") else max(names, key=len)
                    known = Spelling(long, truth=truth, alone=alone)
                    found[name.lstrip("-").replace("-", "_")] = known
        return found


class LenientCommand(FlagCommand):
    """Goes on without the flags that nobody knows, as TensorFlow Serving does."""

    lenient = True


def unknown(ctx: click.Context) -> list[str]:
    """What was put aside, as lines for the log: TensorFlow Serving's words, and a hint."""
    names = [name for parameter in ctx.command.params for name in parameter.opts]
    lines = []
    for argument in ctx.meta.get(UNKNOWN, []):
        name = argument.partition("=")[0].partition(" ")[0]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
        hint = f" (did you mean {near[0]}?)" if near else ""
        lines.append(f"unknown argument: {argument}{hint}")
    return lines


def given(ctx: click.Context) -> frozenset[str]:
    """The names of the parameters that stand on the command line."""
    source = click.core.ParameterSource.COMMANDLINE
    names = [parameter.name for parameter in ctx.command.params if parameter.name is not None]
    return frozenset(name for name in names if ctx.get_parameter_source(name) is source)


def unused(ctx: click.Context) -> dict[str, str]:
    """Flag → why it decides nothing here, of those that were given."""
    names = given(ctx)
    flags = [p for p in ctx.command.params if isinstance(p, Flag) and p.name in names]
    return {flag.opts[0]: flag.unused for flag in flags if flag.unused}
