"""Recordings that the native executor answers otherwise, all of them in one report."""

from collections.abc import Mapping
from typing import Any

import host_recordings
import ml_dtypes
import numpy as np
from host_recordings import Array, Recording

from jaxrt.converters.host import graph, native
from jaxrt.converters.host.tables import Table
from jaxrt.errors import RequestError


def differences(
    recordings: Mapping[str, Recording],
    *,
    close: bool = False,
    tables: Mapping[str, Table] | None = None,
) -> dict[str, str]:
    """Name → what differs. `close` lets floats differ by rounding; NaNs are all alike."""
    found = {name: _difference(r, close, tables or {}) for name, r in recordings.items()}
    return {name: text for name, text in found.items() if text}


def _difference(recording: Recording, close: bool, tables: Mapping[str, Table]) -> str:
    outputs = {f"y{i}": name for i, name in enumerate(recording.fetches)}
    inputs = {f"x{i}": name for i, name in enumerate(recording.feeds)}
    try:
        executor = native.Executor(graph.parse(recording.graph), inputs, outputs, tables)
    except Exception as error:  # reported beside the others
        return f"{type(error).__name__}: {error}"
    for run in recording.runs:
        arguments = {f"x{i}": array for i, array in enumerate(run.arguments)}
        try:
            answers = list(executor.run(arguments).values())
        except RequestError as error:
            if run.error != host_recordings._until_zero(str(error)):
                return f"found error {str(error)!r}, want {run.error!r}, {run.results}"
            continue
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        if run.error is not None:
            return f"want error {run.error!r}, found {answers}"
        for ours, theirs in zip(answers, run.results, strict=True):
            if text := _unlike(ours, np.asarray(theirs), close):
                return f"{text} of {run.arguments}"
    return ""


def _unlike(found: Array, wanted: Array, close: bool) -> str:
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        return f"found {found.dtype}{found.shape}, want {wanted.dtype}{wanted.shape}"
    if found.dtype == np.object_:
        return (
            "" if found.tolist() == wanted.tolist() else f"{found.tolist()}, want {wanted.tolist()}"
        )
    same = host_recordings._bits(found) == host_recordings._bits(wanted)
    if found.dtype.kind in "fc" or found.dtype == ml_dtypes.bfloat16:
        same |= (np.isnan(found) & np.isnan(wanted)).ravel()
        if close:
            tolerance: Any = 8 * float(ml_dtypes.finfo(found.dtype).eps)  # type: ignore[no-untyped-call]
            same |= np.isclose(found, wanted, rtol=tolerance, atol=tolerance).ravel()
    if same.all():
        return ""
    at = np.flatnonzero(~same)
    return f"at {at[:6].tolist()}: {found.ravel()[at[:6]]}, want {wanted.ravel()[at[:6]]}"
