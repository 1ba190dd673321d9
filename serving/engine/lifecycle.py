"""The life of a model's versions: given what is aspired, what is there and the time, what is next.

Pure: no clock, no thread, no disk. The rules are TensorFlow Serving's (core/
aspired_versions_manager.cc, core/availability_preserving_policy.cc): a version that is no longer
aspired serves on until one that is aspired does; of several new ones the highest loads first, of
several old ones the lowest unloads first; a version that failed for good is not tried again until
it was un-aspired and came back. On top of them, it is tried again when its files have changed.
"""

import dataclasses
import enum
from collections.abc import Hashable, Iterable, Mapping


class Phase(enum.Enum):
    """Where a version is; `serving.engine.servable.State` is what clients see of it."""

    NEW = "new"
    """Aspired, nothing was tried yet."""
    LOADING = "loading"
    PAUSED = "paused"
    """A load failed; the next one is at `due`."""
    AVAILABLE = "available"
    UNLOADING = "unloading"
    FAILED = "failed"
    """Loading was given up."""
    GONE = "gone"
    """Unloaded, or never loaded and no longer wanted."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One version of one model."""

    version: int
    place: str
    """Where it lies: a directory or a URI."""
    phase: Phase = Phase.NEW
    aspired: bool = True
    failures: int = 0
    """Loads that failed, since its files last changed."""
    due: float = 0.0
    """Not to be loaded before this instant."""
    seen: Hashable = None
    """What its files looked like when the last load began."""


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    version: int


@dataclasses.dataclass(frozen=True, slots=True)
class Unload:
    version: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Retries:
    """How often a load is tried again, and when: --max_num_load_retries and its interval."""

    count: int = 5
    seconds: float = 60.0


Entries = Mapping[int, Entry]
"""Version → entry, of one model."""

_WAITING = (Phase.NEW, Phase.PAUSED)


def aspire(entries: Entries, places: Mapping[int, str]) -> dict[int, Entry]:
    """The entries when exactly the versions of `places` are wanted from now on."""
    found = dict(entries)
    for version, entry in entries.items():
        if version not in places:
            phase = Phase.GONE if entry.phase in _WAITING else entry.phase
            found[version] = dataclasses.replace(entry, phase=phase, aspired=False)
    for version, place in places.items():
        known = entries.get(version)
        if known is None or known.phase is Phase.GONE or _came_back(known):
            found[version] = Entry(version=version, place=place)
        elif known.phase in _WAITING:
            found[version] = dataclasses.replace(known, place=place)
        else:
            found[version] = dataclasses.replace(known, aspired=True)
    return found


def _came_back(entry: Entry) -> bool:
    return entry.phase is Phase.FAILED and not entry.aspired


def next_action(entries: Iterable[Entry], now: float) -> Load | Unload | None:
    """What to begin now; ask again until there is nothing."""
    known = list(entries)
    aspired = [entry for entry in known if entry.aspired]
    serves = any(entry.phase is Phase.AVAILABLE for entry in aspired)
    old = [e.version for e in known if e.phase is Phase.AVAILABLE and not e.aspired]
    if old and (serves or not aspired):
        return Unload(min(old))
    new = [e.version for e in aspired if e.phase in _WAITING and e.due <= now]
    return Load(max(new)) if new else None


def next_due(entries: Iterable[Entry], now: float) -> float | None:
    """When `next_action` changes its mind by itself; None: never."""
    return min((e.due for e in entries if e.phase in _WAITING and e.due > now), default=None)


def begun(entry: Entry, seen: Hashable) -> Entry:
    """A load begins, on files that look like `seen`; other than last time, it is the first."""
    failures = entry.failures if seen == entry.seen else 0
    return dataclasses.replace(entry, phase=Phase.LOADING, seen=seen, failures=failures)


def postponed(entry: Entry, until: float) -> Entry:
    """Its files are being written: not tried before `until`, and no failure."""
    phase = Phase.PAUSED if entry.failures else Phase.NEW
    return dataclasses.replace(entry, phase=phase, due=until)


def failed(entry: Entry, now: float, retries: Retries, *, hopeless: bool = False) -> Entry:
    """A load failed; `hopeless`: another one of the same files would fail the same way."""
    entry = dataclasses.replace(entry, failures=entry.failures + 1)
    if not entry.aspired:
        return dataclasses.replace(entry, phase=Phase.FAILED)
    if hopeless or entry.failures > retries.count:
        return dataclasses.replace(entry, phase=Phase.FAILED)
    return dataclasses.replace(entry, phase=Phase.PAUSED, due=now + max(0.0, retries.seconds))


def unloaded(entry: Entry) -> Entry:
    """It is gone; wanted again meanwhile, it is new."""
    if entry.aspired:
        return Entry(version=entry.version, place=entry.place)
    return dataclasses.replace(entry, phase=Phase.GONE)


def looked_at(entry: Entry, seen: Hashable) -> Entry:
    """The files of one that failed look like `seen` now: if they changed, it is new again."""
    if not entry.aspired or entry.phase not in (Phase.PAUSED, Phase.FAILED) or entry.seen == seen:
        return entry
    return dataclasses.replace(entry, phase=Phase.NEW, failures=0, due=0.0)


def settled(entries: Iterable[Entry]) -> bool:
    """Whether there is something aspired and all of it was loaded or given up."""
    aspired = [entry for entry in entries if entry.aspired]
    return bool(aspired) and all(e.phase in (Phase.AVAILABLE, Phase.FAILED) for e in aspired)
