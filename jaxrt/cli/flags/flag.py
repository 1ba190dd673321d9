"""One flag, the section of `--help` that it stands in, and how its text becomes a value."""

import dataclasses
from collections.abc import Callable
from typing import Any

import click


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A part of `--help`: a title, and a text that explains what its flags are about."""

    title: str
    text: str


class Flag(click.Option):
    """A click option in a section.

    `unused` says why a flag of TensorFlow Serving decides nothing here; empty where it does.
    """

    def __init__(
        self, *args: Any, section: Section | None = None, unused: str = "", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.section = section
        self.unused = unused

    @property
    def is_truth(self) -> bool:
        """Whether it may stand alone, without a value."""
        return getattr(self.type, "func", None) is truth


def truth(value: Any) -> bool:
    """TensorFlow's bools: `--flag`, `--flag=true`, `--flag=false`, `--flag=1`, `--flag=0`."""
    found = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
    if found is None:
        raise click.BadParameter(f"{value!r}: want true, false, 1 or 0")
    return found


def port(value: Any) -> int | None:
    """A TCP port: None where it is off (`0`), 0 for any free one (`auto`)."""
    if value == "auto":
        return 0
    try:
        number = int(value)
    except ValueError:
        raise click.BadParameter(f"{value!r}: want a number, or auto for any free port") from None
    if not 0 <= number <= 65535:
        raise click.BadParameter(f"{number} is not in the range 0<=x<=65535")
    return number or None


def text(value: Any) -> str | None:
    """What is empty was not given, as in TensorFlow Serving."""
    return str(value) or None


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def flag(name: str, section: Section, variable: str | None = None, **attributes: Any) -> Decorator:
    """`--name`, in a section; the attributes are those of `Flag`.

    `variable`: what the command has its value as, if that is not its name.
    """
    default = attributes.get("default")
    attributes.setdefault("show_default", default is not None)
    if isinstance(default, bool):
        written = str(default).lower()
        attributes |= {"type": truth, "metavar": "true|false", "default": written}
    names = [f"--{name}", *([variable] if variable else [])]
    return click.option(*names, cls=Flag, section=section, **attributes)


def group(*flags: Decorator) -> Decorator:
    """Several flags as one decorator, in their order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for one in reversed(flags):
            command = one(command)
        return command

    return decorate
