"""Strict reading of a JSON object: every field is there, of its type, and none is unknown."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class Fields:
    """A context manager over one object; leaving it normally refuses fields nobody read.

    Every method takes a field's name and raises ValueError with the field's path, what was found
    and what is wanted.
    """

    def __init__(self, data: Any, where: str) -> None:
        """`where` is the object's path, for messages: `signatures.f.programs[0]`; "" at the top."""
        self._where = where
        if not isinstance(data, dict):
            raise ValueError(f"{where or 'the file'}: found {_show(data)}, want an object")
        self._data: Mapping[str, Any] = data
        self._unread = dict(data)

    def __enter__(self) -> "Fields":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._unread:
            raise ValueError(f"{self._path(next(iter(self._unread)))}: an unknown field")

    def value(self, name: str) -> Any:
        if name not in self._data:
            raise ValueError(f"{self._path(name)}: the field is missing")
        self._unread.pop(name, None)
        return self._data[name]

    def has(self, name: str) -> bool:
        """Whether an optional field is there."""
        return name in self._data

    def text(self, name: str, form: re.Pattern[str] | None = None) -> str:
        value = self._of(name, str, "a string")
        if form is not None and not form.fullmatch(value):
            raise self._wrong(name, value, f"a string like {form.pattern}")
        return str(value)

    def text_or_none(self, name: str) -> str | None:
        return None if self.value(name) is None else self.text(name)

    def flag(self, name: str) -> bool:
        return bool(self._of(name, bool, "true or false"))

    def natural(self, name: str) -> int:
        value = self._of(name, int, "a whole number of 0 or more")
        if value < 0:
            raise self._wrong(name, value, "a whole number of 0 or more")
        return int(value)

    def natural_or_none(self, name: str) -> int | None:
        return None if self.value(name) is None else self.natural(name)

    def number_or_none(self, name: str) -> float | None:
        value = self.value(name)
        if value is not None and type(value) not in (int, float):
            raise self._wrong(name, value, "a number or null")
        return None if value is None else float(value)

    def items(self, name: str) -> list[Any]:
        return list(self._of(name, list, "a list"))

    def mapping(self, name: str) -> dict[str, Any]:
        return dict(self._of(name, dict, "an object"))

    def texts(self, name: str) -> tuple[str, ...]:
        items = self.items(name)
        if not all(type(item) is str for item in items):
            raise self._wrong(name, items, "a list of strings")
        return tuple(items)

    def text_map(self, name: str) -> dict[str, str]:
        items = self.mapping(name)
        if not all(type(item) is str for item in items.values()):
            raise self._wrong(name, items, "an object of strings")
        return items

    def flag_map(self, name: str) -> dict[str, bool]:
        items = self.mapping(name)
        if not all(type(item) is bool for item in items.values()):
            raise self._wrong(name, items, "an object of true and false")
        return items

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        items = self.mapping(name)
        for shape in items.values():
            if type(shape) is not list or not all(type(n) is int for n in shape):
                raise self._wrong(name, items, "an object of lists of whole numbers")
        return {key: tuple(shape) for key, shape in items.items()}

    def parsed(self, name: str, parse: Callable[[Any], T]) -> T:
        """By a `from_json` that trusts its input."""
        try:
            return parse(self.value(name))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self._path(name)}: {type(error).__name__}: {error}") from error

    def _of(self, name: str, kind: type, wanted: str) -> Any:
        value = self.value(name)
        if type(value) is not kind:  # not isinstance: JSON's true is no number
            raise self._wrong(name, value, wanted)
        return value

    def _wrong(self, name: str, value: Any, wanted: str) -> ValueError:
        return ValueError(f"{self._path(name)}: found {_show(value)}, want {wanted}")

    def _path(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
