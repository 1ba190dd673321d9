"""The architectures of `bench.engine.zoo` in PyTorch, with random weights, for torch.compile.

What PyTorch's users would write: NCHW images in channels-last memory, scaled_dot_product_attention,
one nn.Embedding a table. Float32 products may use TF32, as jaxrt's do on a GPU by default.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

TOKENS = 128


class Bert(nn.Module):  # type: ignore[misc]
    def __init__(self, depth: int, width: int, heads: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30_522, width), nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.pool = nn.Linear(width, width)

    def forward(self, ids: Any, mask: Any) -> Any:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.words(ids) + self.places(places))
        x = self.encoder(x, src_key_padding_mask=mask == 0)
        return x, torch.tanh(self.pool(x[:, 0]))


class Dlrm(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.bottom = _dense(13, 128, 64, 16)
        self.tables = nn.ModuleList(
            nn.Embedding(100_000 if i < 6 else 5_000, 16) for i in range(26)
        )
        self.register_buffer("below", torch.tril_indices(27, 27, -1))
        self.top = nn.Sequential(_dense(16 + 351, 256, 128), nn.Linear(128, 1), nn.Sigmoid())

    def forward(self, dense: Any, ids: Any) -> Any:
        x = self.bottom(dense)
        found = [table(ids[:, i] % table.num_embeddings) for i, table in enumerate(self.tables)]
        stack = torch.stack([x, *found], dim=1)
        dots = stack @ stack.transpose(1, 2)
        return self.top(torch.cat([x, dots[:, self.below[0], self.below[1]]], dim=1))


class Bottleneck(nn.Module):  # type: ignore[misc]
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(before, width, 1, stride),
            nn.ReLU(),
            *_conv(width, width, 3, 1),
            nn.ReLU(),
            *_conv(width, 4 * width, 1, 1),
        )
        other = stride != 1 or before != 4 * width
        self.skip = nn.Sequential(*_conv(before, 4 * width, 1, stride)) if other else nn.Identity()

    def forward(self, x: Any) -> Any:
        return torch.relu(self.body(x) + self.skip(x))


def _conv(before: int, after: int, window: int, stride: int) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(before, after, window, stride, padding=window // 2)
    return conv, nn.BatchNorm2d(after)


def _dense(*sizes: int) -> nn.Module:
    pairs = zip(sizes, sizes[1:], strict=False)
    return nn.Sequential(*(m for a, b in pairs for m in (nn.Linear(a, b), nn.ReLU())))


def _resnet50() -> nn.Module:
    blocks: list[nn.Module] = []
    before = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(count):
            blocks.append(Bottleneck(before, width, stride if number == 0 else 1))
            before = 4 * width
    stem = (*_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000), nn.Softmax(-1))
    return nn.Sequential(*stem, *blocks, *head)


def _mlp() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((256, 1024), (1024, 1024), (1024, 384)):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(384, 1), nn.Sigmoid())


def _tokens(rows: int) -> tuple[Any, ...]:
    return torch.randint(1, 30_522, (rows, TOKENS)), torch.ones((rows, TOKENS), dtype=torch.int32)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], tuple[Any, ...]]]] = {
    "mlp": (_mlp, lambda rows: (torch.randn(rows, 256),)),
    "dlrm": (Dlrm, lambda rows: (torch.randn(rows, 13), torch.randint(0, 2**40, (rows, 26)))),
    "resnet50": (_resnet50, lambda rows: (torch.rand(rows, 3, 224, 224),)),
    "bert_small": (lambda: Bert(4, 512, 8), _tokens),
    "bert_base": (lambda: Bert(12, 768, 12), _tokens),
}


def compiled(name: str, rows: int) -> Callable[[], Any]:
    """Runs a compiled model on host arrays until the results are on the host, as jaxrt does.

    On a GPU by `max-autotune-no-cudagraphs`: CUDA graphs would fix the addresses of its inputs.
    """
    build, inputs = MODELS[name]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    model = build().eval().to(device)
    if name == "resnet50":
        model = model.to(memory_format=torch.channels_last)
    mode = "max-autotune-no-cudagraphs" if device == "cuda" else "default"
    fast = torch.compile(model, mode=mode)
    given = inputs(rows)

    def run() -> Any:
        with torch.inference_mode():
            found = fast(*(tensor.to(device) for tensor in given))
            return [part.cpu() for part in (found if isinstance(found, tuple) else (found,))]

    return run
