"""`--monitoring_config_file`: where a server counts, and the page that shows it."""

from pathlib import Path

from jaxrt.cli.settings import Settings
from jaxrt.serving.engine.source import local_path
from jaxrt.serving.monitoring import config
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.monitoring.cells import Cells
from jaxrt.serving.monitoring.page import Page
from jaxrt.serving.monitoring.registry import Registry
from jaxrt.serving.workers import Post


def path_of(settings: Settings) -> str | None:
    """Where the page is asked for; None: nowhere. Raises UsageError on a wrong file."""
    file = settings.monitoring_config_file
    return config.read(Path(local_path(file))) if file else None


def counting(post: Post | None) -> Calls:
    """In memory of this process; in a worker, in what its supervisor holds."""
    return Calls(Registry(Cells(post.memory[post.index] if post else None)))


def page(path: str | None, calls: Calls, post: Post | None) -> Page | None:
    """Of all workers."""
    return Page(path, calls.registry, post.memory if post else ()) if path else None
