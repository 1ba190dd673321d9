"""Which way a signature goes: what XLA is asked before anyone knows the sizes."""

from pathlib import Path
from typing import Any

import fake_tensorflow
import pytest
from fake_tensorflow import FakeTensorFlow

from jaxrt.converters import routes
from jaxrt.program import Shapes

SPECS = {
    "mask": fake_tensorflow.signature(
        ids=fake_tensorflow.tensor("int64", None, None),
        length=fake_tensorflow.tensor("int64", None),
        scale=fake_tensorflow.tensor("float32"),
    )
}


def declined(tensorflow: FakeTensorFlow) -> dict[str, str]:
    model = tensorflow.open_model(Path("model"), ("serve",))
    return routes.declined(tensorflow, model, ["mask"])


def test_a_signature_that_xla_takes_at_no_size_is_declined_for_its_reason() -> None:
    def refuse(signature: str, shapes: Shapes) -> str | None:
        return "Range must be a compile-time constant."

    tensorflow = FakeTensorFlow({}, SPECS, refuse=refuse)
    assert declined(tensorflow) == {"mask": "Range must be a compile-time constant."}
    asked = [dict(shapes) for _, shapes in tensorflow.lowered]
    assert asked[0] == {"ids": (2, 8), "length": (2,), "scale": ()}
    assert len({shapes["ids"] for shapes in asked}) == len(asked) > 1


@pytest.mark.parametrize("size", [8, 64, 1])
def test_one_size_that_xla_takes_is_enough(size: int) -> None:
    def refuse(signature: str, shapes: Shapes) -> str | None:
        return None if shapes["ids"][1] == size else "Want another size."

    def mask(weights: Any, **inputs: Any) -> dict[str, Any]:
        return {"y": inputs["scale"]}

    assert declined(FakeTensorFlow({"mask": mask}, SPECS, refuse=refuse)) == {}
