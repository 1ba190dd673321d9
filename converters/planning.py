"""Which shapes of a signature are compiled: batch sizes × sizes of its other unknown dimensions."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from jaxrt.buckets import Buckets
from jaxrt.errors import UsageError
from jaxrt.program import Shapes
from jaxrt.specs import SignatureSpec, TensorSpec

Sizes = tuple[int, ...]
Inner = Mapping[str, Sizes | None]
"""Input → its shape without the batch; None for a scalar."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ShapeRule:
    """One `--shape NAMES=SIZES`: the named inputs share the sizes, taken one after the other."""

    names: tuple[str, ...]
    """Aliases, `signature:alias`, or `*` for every input with unknown dimensions."""
    sizes: tuple[Sizes, ...]
    """One entry a bucket; its numbers fill the unknown dimensions, one number fills them all."""

    def names_input(self, signature: str, alias: str) -> bool:
        return any(n in ("*", alias, f"{signature}:{alias}") for n in self.names)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One program to compile. `batch` is None where the signature has no batch dimension."""

    shapes: Shapes
    batch: int | None
    shared: frozenset[str] = frozenset()
    """Inputs without rows, such as a scalar beside the batch: one value for a whole batch."""

    def rebatch(self, batch: int) -> "Planned":
        """The same program at another batch size."""
        shapes = {a: s if a in self.shared else (batch, *s[1:]) for a, s in self.shapes.items()}
        return dataclasses.replace(self, shapes=shapes, batch=batch)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The programs of one signature, or what keeps it from being planned."""

    programs: tuple[Planned, ...]
    unplanned: str | None = None
    """One sentence with the flag that helps; programs is empty then."""
    otherwise: "Plan | None" = None
    """To be tried when TensorFlow refuses every program: another guess at an unknown rank."""
    notes: tuple[str, ...] = ()


def parse_rule(text: str) -> ShapeRule:
    """`ids,mask=64,128` → both inputs 64, then both 128; `image=48x64` fills two dimensions.

    Raises UsageError for anything else.
    """
    names, found, sizes = text.rpartition("=")
    try:
        parsed = tuple(tuple(int(n) for n in size.split("x")) for size in sizes.split(","))
    except ValueError:
        parsed = ()
    if not found or not names or not parsed or any(n < 0 for size in parsed for n in size):
        raise UsageError(
            f"--shape {text!r}: want NAME[,NAME...]=SIZE[,SIZE...], such as "
            "--shape input_ids,input_mask=64,128 or --shape image=224x224"
        )
    return ShapeRule(names=tuple(names.split(",")), sizes=parsed)


def plan(
    signature: str,
    spec: SignatureSpec,
    *,
    buckets: Buckets,
    rules: Sequence[ShapeRule] = (),
    observed: Sequence[Shapes] = (),
) -> Plan:
    """The programs to compile for one signature.

    `observed` are whole shapes seen in a warm-up file; their inner dimensions become planned
    ones, for every bucket. Raises UsageError when a rule does not fit the input it names.
    """
    guessed = _guessed(signature, spec, rules, observed)
    if guessed:
        return dataclasses.replace(
            _plan(signature, spec, guessed, (), buckets=buckets, rules=rules, observed=observed),
            otherwise=_plan(
                signature, spec, (), guessed, buckets=buckets, rules=rules, observed=observed
            ),
        )
    return _plan(signature, spec, (), (), buckets=buckets, rules=rules, observed=observed)


def of_stage(
    spec: SignatureSpec,
    like: Mapping[str, tuple[tuple[str, int] | None, ...]],
    whole: Plan,
) -> Plan:
    """The programs of a stage for those of its signature. `like`: input → for each dimension, the
    signature's input and its dimension that is as large."""
    found: dict[tuple[tuple[str, Sizes], ...], Planned] = {}
    for planned in whole.programs:
        shapes = {
            alias: _like(tensor, like.get(alias, ()), planned)
            for alias, tensor in spec.inputs.items()
        }
        rows = any(t.shape is None or t.shape[:1] == (None,) for t in spec.inputs.values())
        batch = planned.batch if rows else None
        stage = Planned(shapes=shapes, batch=batch, shared=spec.shared(shapes))
        found.setdefault(tuple(shapes.items()), stage)
    return dataclasses.replace(whole, programs=tuple(found.values()), otherwise=None)


def _like(
    tensor: TensorSpec, like: tuple[tuple[str, int] | None, ...], planned: Planned
) -> tuple[int, ...]:
    sizes = []
    dims = tensor.shape or ()
    for size, dim in zip(dims, like or (None,) * len(dims), strict=True):
        if size is None:
            size = planned.shapes[dim[0]][dim[1]] if dim is not None else planned.batch or 1
        sizes.append(size)
    return tuple(sizes)


def _guessed(
    signature: str,
    spec: SignatureSpec,
    rules: Sequence[ShapeRule],
    observed: Sequence[Shapes],
) -> tuple[str, ...]:
    """Inputs of unknown rank that nothing says more about: one number a row, or else a scalar."""
    return tuple(
        alias
        for alias, tensor in spec.inputs.items()
        if tensor.shape is None
        and not observed
        and not any(r.names_input(signature, alias) for r in rules)
    )


def _plan(
    signature: str,
    spec: SignatureSpec,
    plain: Sequence[str],
    scalars: Sequence[str],
    *,
    buckets: Buckets,
    rules: Sequence[ShapeRule],
    observed: Sequence[Shapes],
) -> Plan:
    """`plain` inputs of unknown rank are taken as [batch], `scalars` as []."""
    open_inputs = [
        a for a, t in spec.inputs.items() if _open(t) and a not in plain and a not in scalars
    ]
    chosen, notes = _choices(signature, spec, open_inputs, rules)
    inner: list[Inner] = []
    if all(alias in chosen for alias in open_inputs):
        known = {**_fixed(spec), **dict.fromkeys(plain, ()), **dict.fromkeys(scalars)}
        for combination in _product(chosen):
            inner.append({**known, **dict(zip(chosen, combination, strict=True))})
    inner += [found for shapes in observed if (found := _inner_of(spec, shapes)) is not None]
    if not inner:
        missing = [f"{a}{_text(spec.inputs[a])}" for a in open_inputs if a not in chosen]
        return Plan(
            programs=(),
            unplanned=f"signature {signature!r}: {', '.join(missing)} "
            f"{'has' if len(missing) == 1 else 'have'} unknown dimensions beyond the batch; "
            f"pass --shape {','.join(open_inputs)}=SIZE[,SIZE...] to plan them",
            notes=tuple(notes),
        )
    return Plan(programs=tuple(_with_batches(spec, inner, buckets)), notes=tuple(notes))


def _open(tensor: TensorSpec) -> bool:
    """Has dimensions beyond the batch that nobody knows."""
    return tensor.shape is None or any(d is None for d in tensor.shape[1:])


def _text(tensor: TensorSpec) -> str:
    if tensor.shape is None:
        return "[unknown rank]"
    return "[" + ",".join("?" if d is None else str(d) for d in tensor.shape) + "]"


def _fixed(spec: SignatureSpec) -> dict[str, Sizes | None]:
    """Inner shape of each input whose inner dimensions are all known."""
    return {
        alias: tuple(d for d in tensor.shape[1:] if d is not None)
        for alias, tensor in spec.inputs.items()
        if not _open(tensor) and tensor.shape is not None
    }


def _choices(
    signature: str,
    spec: SignatureSpec,
    open_inputs: Sequence[str],
    rules: Sequence[ShapeRule],
) -> tuple[dict[str, list[Sizes]], list[str]]:
    """Input → its inner shapes; inputs of one rule have lists of equal length."""
    chosen: dict[str, list[Sizes]] = {}
    notes = []
    used = [r for r in rules if any(r.names_input(signature, a) for a in spec.inputs)]
    for rule in used:
        for alias in spec.inputs:
            explicit = rule.names != ("*",)
            if rule.names_input(signature, alias) and (explicit or alias in open_inputs):
                chosen[alias] = [_fill(alias, spec.inputs[alias], s) for s in rule.sizes]
    left = [a for a in open_inputs if a not in chosen]
    if left and len(used) == 1 and chosen:
        for alias in left:
            chosen[alias] = [_fill(alias, spec.inputs[alias], s) for s in used[0].sizes]
        notes.append(
            f"signature {signature!r}: {', '.join(left)} taken to share the sizes of "
            f"{', '.join(used[0].names)}"
        )
    return chosen, notes


def _fill(alias: str, tensor: TensorSpec, size: Sizes) -> Sizes:
    """An inner shape: the unknown dimensions of `tensor` filled with `size`."""
    if tensor.shape is None:
        return size
    gaps = sum(d is None for d in tensor.shape[1:])
    numbers = size * gaps if len(size) == 1 else size
    if len(numbers) != gaps:
        raise UsageError(
            f"--shape {alias}={'x'.join(map(str, size))}: {alias}{_text(tensor)} has {gaps} "
            f"unknown dimensions beyond the batch, {len(size)} sizes were given"
        )
    fill = iter(numbers)
    return tuple(next(fill) if d is None else d for d in tensor.shape[1:])


def _product(chosen: Mapping[str, list[Sizes]]) -> list[tuple[Sizes, ...]]:
    """All combinations; inputs with lists of equal length go together, one after the other."""
    groups: dict[int, list[str]] = {}
    for alias, sizes in chosen.items():
        groups.setdefault(len(sizes), []).append(alias)
    combined = []
    for picks in itertools.product(*(range(n) for n in groups)):
        index = {a: i for aliases, i in zip(groups.values(), picks, strict=True) for a in aliases}
        combined.append(tuple(chosen[a][index[a]] for a in chosen))
    return combined


def _inner_of(spec: SignatureSpec, shapes: Shapes) -> Inner | None:
    if set(shapes) != set(spec.inputs):
        return None
    return {alias: shape[1:] if shape else None for alias, shape in shapes.items()}


def _with_batches(spec: SignatureSpec, inner: Sequence[Inner], buckets: Buckets) -> list[Planned]:
    found: dict[tuple[tuple[str, Sizes], ...], Planned] = {}
    batched = any(t.shape is None or t.shape[:1] == (None,) for t in spec.inputs.values())
    for variant in inner:
        for batch in buckets.sizes if batched else [None]:
            shapes = {a: _whole(t, variant[a], batch) for a, t in spec.inputs.items()}
            shared = spec.shared(shapes)
            planned = Planned(shapes=shapes, batch=batch, shared=shared)
            found.setdefault(tuple(shapes.items()), planned)
    return list(found.values())


def _whole(tensor: TensorSpec, inner: Sizes | None, batch: int | None) -> Sizes:
    if inner is None or tensor.shape == ():
        return ()
    first = batch if tensor.shape is None or tensor.shape[0] is None else tensor.shape[0]
    assert first is not None
    return (first, *inner)
