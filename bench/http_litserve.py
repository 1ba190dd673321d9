"""LitServe's form of a model: a class that its worker process can import."""

from typing import Any

import litserve as ls
from http_peers import Signature


class Api(ls.LitAPI):  # type: ignore[misc]
    """One example a request, batched by LitServe."""

    def __init__(self, model: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.path = model

    def setup(self, device: str) -> None:
        self.signature = Signature(self.path)

    # Without an annotation of `request`: LitServe makes a query parameter of any but its own.
    def decode_request(self, request, **_: Any) -> Any:  # type: ignore[no-untyped-def]
        return request["instances"][0]

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, items: list[Any], **_: Any) -> list[Any]:
        found: list[Any] = self.signature.predictions(items)
        return found

    def unbatch(self, outputs: list[Any]) -> list[Any]:
        return outputs  # LitServe counts them: no generator

    def encode_response(self, output: Any, **_: Any) -> Any:
        return {"predictions": [output]}
