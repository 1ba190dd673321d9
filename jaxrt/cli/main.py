"""The group of commands, and how errors end a process."""

import contextlib
import importlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from jaxrt import __version__
from jaxrt.errors import JaxrtError

COMMANDS = {
    "compile": "Compile a SavedModel into an artifact.",
    "inspect": "Show what an artifact holds.",
    "verify": "Compare an artifact with TensorFlow.",
    "serve": "Serve artifacts and SavedModels over HTTP.",
    "targets": "List the TPUs and GPUs that can be compiled for.",
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
            with _terminable():
                return super().invoke(ctx)
        except JaxrtError as error:
            _fail(ctx, str(error), error.exit_code)
        except BrokenPipeError:
            raise  # click's: whoever read our output has enough
        except OSError as error:
            where = f"{error.filename}: " if error.filename is not None else ""
            reason = (error.strerror or str(error)).lower()
            _fail(ctx, f"{where}{reason}; see to the disk or choose another place", 1)
        except KeyboardInterrupt as interrupt:
            number = interrupt.args[0] if interrupt.args else signal.SIGINT
            _fail(ctx, f"stopped by {signal.Signals(number).name}", 128 + number)


def _fail(ctx: click.Context, text: str, code: int) -> NoReturn:
    # One line: what a log collector or a shell script shows of it is the whole of it.
    click.echo(f"jaxrt: error: {' '.join(text.split())}", err=True)
    ctx.exit(code)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: what it wrote halfway is removed on the way out."""

    def interrupt(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
