"""Entries of the manifest: what they say beyond their fields."""

import pytest

from jaxrt.entries import HostEntry


@pytest.mark.parametrize(
    ("executor", "why", "stateful"),
    [
        ("saved_model", "It changes state (counter): AssignAddVariableOp.", True),
        ("saved_model", "It changes tables, or reads changed ones: LookupTableInsertV2.", True),
        ("saved_model", "It reads state that another signature changes: counter.", True),
        ("saved_model", "TensorFlow declines: no kernel.", False),
        ("native", "It changes strings.", False),
    ],
)
def test_only_what_requests_change_for_later_ones_is_state(
    executor: str, why: str, stateful: bool
) -> None:
    entry = HostEntry(executor=executor, rows="dependent", ops=(), why=why)
    assert entry.stateful is stateful
