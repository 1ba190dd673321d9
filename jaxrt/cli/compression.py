"""What the flags of compression mean: schemes, budget, and files of calibration data."""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrt import warmups
from jaxrt.cli.flags.compression import CompressionFlags
from jaxrt.compression.budget import Budget, share
from jaxrt.compression.calibration import Read, Request, Source
from jaxrt.compression.goals import Goal, Wanted
from jaxrt.compression.schemes import Scheme, parse_rule, supported
from jaxrt.digest import file_sha256
from jaxrt.errors import JaxrtError, ModelError, RequestError, UsageError
from jaxrt.serving.rest import decode, json_reader
from jaxrt.serving.rest.examples import fed
from jaxrt.serving.rpc import inference, modelspec, prediction
from jaxrt.serving.rpc.messages import message
from jaxrt.serving.rpc.modelspec import ModelSpec
from jaxrt.serving.rpc.wire import Malformed, parsed
from jaxrt.specs import SignatureSpec
from jaxrt.target import Target
from jaxrt.tfrecord import NotATFRecord
from jaxrt.warmups import Kind

Array = np.ndarray[Any, Any]
Specs = Mapping[str, SignatureSpec]

FORMATS = ".npz, JSON or JSON lines of REST predict requests, or a TFRecord file of PredictionLogs"


def check(flags: CompressionFlags, target: Target) -> None:
    """Raises UsageError for what no model could be compiled with; before any is read."""
    found = wanted(flags, None)
    schemes = [] if found is None else [found.scheme, *(rule.scheme for rule in found.rules)]
    for scheme in schemes:
        if scheme is not None and (why := supported(scheme, target)) is not None:
            raise UsageError(f"--compress {scheme.value}: {why}")


def wanted(flags: CompressionFlags, model: Path | None) -> Wanted | None:
    """None where nothing is to be compressed; `model` is the SavedModel. Raises UsageError."""
    budget = Budget(
        max_error=_share("--max-error", flags.max_error),
        min_agreement=_share("--min-agreement", flags.min_agreement),
    )
    rules = tuple(parse_rule(text) for text in flags.compress_rules)
    source = None if flags.calibration is None else source_of(Path(flags.calibration))
    if not flags.asks:
        idle = {"--max-error": flags.max_error, "--min-agreement": flags.min_agreement}
        idle |= {"--calibration": flags.calibration}
        if given := [name for name, value in idle.items() if value is not None]:
            raise UsageError(f"{given[0]}: nothing is compressed; add --compress auto or int8")
        return None
    if flags.compress is None and not flags.allow_compression:
        scheme: Scheme | None = Scheme.FLOAT
    else:
        scheme = None if flags.compress in (None, "auto") else Scheme(flags.compress)
    return Wanted(
        scheme=scheme,
        rules=rules,
        budget=budget,
        goal=Goal(flags.goal),
        prune=_pruned(flags.prune),
        calibration=source or (None if model is None else _warm_up(model)),
    )


def _pruned(text: str | None) -> float:
    if text is not None and re.fullmatch(r"\d+:\d+", text):
        raise UsageError(
            f"--prune {text}: no target multiplies by matrices with N of M weights through XLA, so "
            "that zeros among others would win nothing; want a share of whole channels, such as 25%"
        )
    return _share("--prune", text) or 0.0


def _share(flag: str, text: str | None) -> float | None:
    return None if text is None else share(flag, text)


def _warm_up(model: Path) -> Source | None:
    path = model / warmups.FILE
    if not path.is_file():
        return None

    def read(specs: Specs) -> list[Request]:
        try:
            return [
                found
                for request in warmups.requests(model)
                for found in _logged(request, specs, strict=False)
            ]
        except ModelError:  # a server says so when it replays them
            return []

    return Source(said="the warm-up file", read=read, sha256=file_sha256(path), strict=False)


def source_of(path: Path) -> Source:
    """A file of requests; raises UsageError where there is none, or none of a known format."""
    if not path.is_file():
        raise UsageError(f"--calibration {path}: no such file; want {FORMATS}")
    return Source(said=str(path), read=_reader(path), sha256=file_sha256(path))


def _reader(path: Path) -> Read:
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:2] == b"PK":
        return lambda specs: list(_npz(path, specs))
    if head.lstrip()[:1] in (b"{", b"["):
        return lambda specs: list(_json(path, specs))
    return lambda specs: list(_records(path, specs))


def _npz(path: Path, specs: Specs) -> Iterator[Request]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            arrays: dict[str, Array] = dict(held)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"--calibration {path}: numpy does not read it ({str(error).splitlines()[0]}); want "
            "arrays without objects, strings as bytes"
        ) from None
    plain: dict[str, Array] = {}
    by_signature: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        key = next((k for k in specs if name.startswith(f"{k}/")), None)
        if key is not None and name[len(key) + 1 :] in specs[key].inputs:
            by_signature.setdefault(key, {})[name[len(key) + 1 :]] = array
        else:
            plain[name] = array
    if plain:
        takes = [key for key, spec in specs.items() if set(spec.inputs) == set(plain)]
        if not takes:
            wants = "; ".join(f"{k}: {', '.join(s.inputs)}" for k, s in specs.items() if s.inputs)
            raise UsageError(
                f"--calibration {path}: found arrays {', '.join(sorted(plain))}, want those of a "
                f"signature's inputs, or signature/input: {wants}"
            )
        for key in takes:
            by_signature.setdefault(key, plain)
    for key, inputs in by_signature.items():
        yield Request(signature=key, inputs=inputs, where=f"--calibration {path}")


def _json(path: Path, specs: Specs) -> Iterator[Request]:
    """One object, or one a line."""
    content = path.read_bytes()
    if not _is_json(next(line for line in content.splitlines() if line.strip())):
        yield _body(content, specs, f"--calibration {path}")
        return
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            yield _body(line, specs, f"--calibration {path}: line {number}")


def _is_json(line: bytes) -> bool:
    """Whether it is a whole object: the first line of one that is spread over lines is none."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _body(content: bytes, specs: Specs, where: str) -> Request:
    try:
        asked = json_reader.parse(content)
        key, spec = decode.signature(asked, specs)
        _, inputs = decode.inputs(asked, spec)
    except RequestError as error:
        said = str(error).splitlines()[0]
        raise UsageError(
            f"{where}: it is no REST predict request: {said[:300]}; want "
            '{"instances": [...]} or {"inputs": ...}'
        ) from None
    return Request(signature=key, inputs=inputs, where=where)


def _records(path: Path, specs: Specs) -> Iterator[Request]:
    try:
        for request in warmups.requests_of(path, limit=None):
            yield from _logged(request, specs, strict=True)
    except NotATFRecord:
        raise UsageError(
            f"--calibration {path}: found none of its formats, want {FORMATS}"
        ) from None
    except ModelError as error:
        raise UsageError(f"--calibration {error}") from None


def _logged(request: warmups.Request, specs: Specs, *, strict: bool) -> Iterator[Request]:
    """What the log feeds; requests that cannot be read are left out unless `strict`."""
    try:
        for key, inputs in _fed(request, specs):
            yield Request(signature=key, inputs=inputs, where=request.where)
    except (Malformed, JaxrtError, KeyError) as error:
        if strict:
            raise UsageError(f"--calibration {request.where}: {error}") from None


def _fed(request: warmups.Request, specs: Specs) -> Iterator[tuple[str, Mapping[str, Array]]]:
    if request.kind is Kind.PREDICT:
        asked = prediction.read(request.serialized, 0)
        name = asked.spec or ModelSpec()
        spec = prediction.signature(name, specs, check_method_name=False)
        yield name.signature, prediction.inputs(asked, spec)
        return
    if request.kind is Kind.MULTI_INFERENCE:
        several = parsed(message("MultiInferenceRequest").FromString, request.serialized)
        names = [modelspec.read(task.model_spec.SerializeToString()) for task in several.tasks]
        examples = inference.examples(several.input)
    else:
        one = parsed(message("InferenceRequest").FromString, request.serialized)
        names = [modelspec.read(one.model_spec.SerializeToString())]
        examples = inference.examples(one.input)
    for name in names:
        yield name.signature, fed(specs[name.signature], examples)
