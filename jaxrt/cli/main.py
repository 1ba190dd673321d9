"""The group of commands, and how errors end a process."""

import importlib
import sys
from typing import Any

import click

from jaxrt import __version__
from jaxrt.errors import JaxrtError

COMMANDS = {
    "compile": "Compile a SavedModel into an artifact.",
    "inspect": "Show what an artifact holds.",
    "verify": "Compare an artifact with TensorFlow.",
    "serve": "Serve artifacts and SavedModels over HTTP.",
}
"""Name → one line; each lives in a module of its own, imported when it is run."""


class _Commands(click.Group):
    """Loads a command when it is asked for: `jaxrt --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"jaxrt.cli.{name}")
        found = module.command
        assert isinstance(found, click.Command)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except JaxrtError as error:
            # One line: what a log collector or a shell script shows of it is the whole of it.
            text = " ".join(str(error).split())
            click.echo(f"jaxrt: error: {text}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="jaxrt")
def main() -> None:
    """Serve TensorFlow SavedModels with JAX and XLA.

    \b
    A SavedModel is compiled once, for each batch size, into an artifact;
    the artifact is served with TensorFlow Serving's REST API, without
    TensorFlow and without compiling anything on the request path.

    \b
      jaxrt compile model/ --batch-sizes 1,8,64 -o model.jaxrt
      jaxrt verify model.jaxrt --against model/
      jaxrt serve model.jaxrt --rest_api_port 8501
    """


if __name__ == "__main__":
    sys.exit(main())
