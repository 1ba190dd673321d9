"""What interfaces count of their requests."""

import pytest

from jaxrt.errors import Code
from jaxrt.serving.monitoring import families
from jaxrt.serving.monitoring.calls import OTHER, STRANGERS, Calls
from jaxrt.serving.monitoring.cells import Key, read


def counts(calls: Calls) -> dict[Key, list[float]]:
    return {key: list(numbers) for key, numbers in read(calls.registry.cells.memory).items()}


def test_an_answered_call_is_counted_with_its_latency_in_microseconds() -> None:
    calls = Calls()
    calls.finished("m", Code.OK, "predict", "REST", 0.000_017)
    calls.finished("m", Code.OK, "predict", "REST", 0.000_019)
    seen = counts(calls)
    assert seen[families.REQUEST_COUNT.name, ("m", "OK")] == [2]
    latency = seen[families.REQUEST_LATENCY.name, ("m", "predict", "REST")]
    assert latency[:3] == [0, 1, 1]
    assert latency[-1] == pytest.approx(36)


def test_a_failed_call_is_counted_by_its_code_and_has_no_latency() -> None:
    calls = Calls()
    calls.finished("m", Code.NOT_FOUND, "predict", "REST", 1.0)
    calls.finished("", Code.INVALID_ARGUMENT, "", "REST", 1.0)
    assert counts(calls) == {
        (families.REQUEST_COUNT.name, ("m", "NOT_FOUND")): [1],
        (families.REQUEST_COUNT.name, ("", "INVALID_ARGUMENT")): [1],
    }


def test_names_that_clients_make_up_cannot_fill_the_memory() -> None:
    calls = Calls()
    for number in range(STRANGERS + 5):
        calls.finished(f"made-up-{number}", Code.NOT_FOUND, "predict", "REST", 0.0)
    calls.finished("real", Code.OK, "predict", "REST", 0.0)
    calls.finished("real", Code.UNAVAILABLE, "predict", "REST", 0.0)
    seen = counts(calls)
    assert seen[families.REQUEST_COUNT.name, (OTHER, "NOT_FOUND")] == [5]
    assert seen[families.REQUEST_COUNT.name, ("real", "UNAVAILABLE")] == [1]
    assert len(seen) == STRANGERS + 4


def test_what_a_model_ran_is_counted_by_api_and_runtime() -> None:
    calls = Calls()
    calls.ran("m", "Predict", 0.001)
    calls.ran("m", "Predict", 0.003)
    runs = counts(calls)[families.RUNTIME_LATENCY.name, ("m", "Predict", "JAX")]
    assert sum(runs[:-1]) == 2
    assert runs[-1] == pytest.approx(4000)


def test_examples_are_counted_for_each_request_and_in_all() -> None:
    calls = Calls()
    calls.examples("m", 3)
    calls.examples("m", 9)
    seen = counts(calls)
    assert seen[families.EXAMPLE_TOTAL.name, ("m",)] == [12]
    assert seen[families.EXAMPLE_COUNTS.name, ("m",)][:5] == [0, 0, 1, 0, 1]


def test_a_version_that_is_gone_loses_its_own_series_and_leaves_those_of_its_model() -> None:
    calls = Calls()
    calls.finished("m", Code.OK, "predict", "REST", 0.0)
    calls.staged("parse", "m", 1, 0.0)
    calls.staged("parse", "m", 2, 0.0)
    calls.forget("m", 1)
    seen = counts(calls)
    assert (families.STAGE_SECONDS.name, ("m", "2", "parse")) in seen
    assert (families.STAGE_SECONDS.name, ("m", "1", "parse")) not in seen
    assert (families.REQUEST_COUNT.name, ("m", "OK")) in seen
    calls.staged("parse", "m", 1, 0.0)
    assert sum(counts(calls)[families.STAGE_SECONDS.name, ("m", "1", "parse")][:-1]) == 1
