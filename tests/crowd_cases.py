"""Recorded requests of real SavedModels, mixed at random, against what TensorFlow answered.

python tests/crowd_cases.py MODELS CASES...

MODELS is a directory of SavedModels, or of base paths of one version each; CASES are files of
JSON lines, plain or gzipped: model, signature, request (a body of the REST API in columns) and
the outputs that TensorFlow gave. Prints one line a model; exits with 1 where an answer differs.
"""

import base64
import dataclasses
import gzip
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import crowd
import numpy as np

from jaxrt.cli import building
from jaxrt.converters.records import ModelRecord
from jaxrt.specs import DTYPES

CROWDS = 30
"""Of recorded requests, for each model."""

RECORDED = 5e-4
"""Of an output's largest value: as far as answers may be from those that TensorFlow gave."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """A request, and what TensorFlow answered it."""

    request: crowd.Request
    want: crowd.Values


def recorded(model: Path, path: Path, record: ModelRecord) -> Iterator[Recorded]:
    """Those of a file that are for this model and whose signature it has."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as lines:
        for line in lines:
            case = json.loads(line)
            if case["model"] == model.name:
                inputs = record.signatures[case["signature"]].inputs
                given = case["request"]["inputs"]
                values = {a: _array(given[a], s.dtype) for a, s in inputs.items() if a in given}
                outputs = {a: _array(v, case["dtypes"][a]) for a, v in case["outputs"].items()}
                yield Recorded(request=(case["signature"], values), want=outputs)


def _array(value: Any, dtype: str) -> np.ndarray[Any, Any]:
    """A tensor as the REST API writes it; strings are objects with a base64 text."""
    if dtype != "string":
        return np.array(value, DTYPES[dtype].numpy)
    shape = np.shape(np.asarray(value, object))
    found = np.empty(shape, object)
    for index in np.ndindex(*shape):
        one: Any = value
        for place in index:
            one = one[place]
        found[index] = base64.b64decode(one["b64"])
    return found


def mixed(served: crowd.Crowd, name: str, cases: Sequence[Recorded], crowds: int) -> list[str]:
    """What went wrong in so many crowds of recorded requests, and alone."""
    found = []
    alone = [served.alone(name, case.request) for case in cases]
    for case, answer in zip(cases, alone, strict=True):
        if (why := crowd.difference(answer, case.want, RECORDED)) is not None:
            found.append(f"{case.request[0]} alone: {why[:300]}")
    draw = np.random.default_rng(0)
    for _ in range(crowds):
        chosen = draw.integers(0, len(cases), int(draw.integers(2, 9))).tolist()
        answers = served.together(name, [cases[i].request for i in chosen]).answers
        for i, answer in zip(chosen, answers, strict=True):
            if (why := crowd.difference(answer, alone[i], crowd.ALIKE)) is not None:
                found.append(f"{cases[i].request[0]} in a crowd: {why[:300]}")
    return found


def main(folder: Path, files: Sequence[Path], scratch: Path) -> int:
    failed = 0
    with building.Bridges() as bridges:
        for model in sorted(folder.iterdir()):
            saved = building.saved_model(model).path if model.is_dir() else None
            if saved is None:
                continue
            record = bridges.start().open_model(saved)
            cases = [case for file in files for case in recorded(model, file, record)]
            if not cases:
                continue
            sizes = sorted({rows_of(case.request) for case in cases} - {0} | {1})
            crowd.compile_model(model, scratch / model.name, bridges, sizes)
            with crowd.Crowd({model.name: scratch / model.name}) as served:
                wrong = mixed(served, model.name, cases, CROWDS)
            print("FAIL" if wrong else "ok  ", model.name, len(cases), *wrong[:3], flush=True)
            failed += bool(wrong)
    return int(failed > 0)


def rows_of(request: crowd.Request) -> int:
    """Of the first input that has any."""
    return next((len(a) for a in request[1].values() if a.shape), 0)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        given = [Path(argument) for argument in sys.argv[1:]]
        sys.exit(main(given[0], given[1:], Path(scratch)))
