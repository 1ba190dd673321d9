"""The command line: `jaxrt compile`, `inspect`, `verify`, `serve`."""

from jaxrt.cli.main import main as main
