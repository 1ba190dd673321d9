"""Which artifact of the cache a SavedModel is: by its devices and their plan, too."""

import dataclasses
import json
from pathlib import Path

from jaxrt.cli.building import Bridges
from jaxrt.cli.choices import Choices
from jaxrt.cli.devices import Meshing
from jaxrt.cli.flags.compression import CompressionFlags
from jaxrt.target import Target

CPU = Target(platform="cpu", device_kind="cpu", num_devices=1, fingerprint="f", features="cpu")
EIGHT = dataclasses.replace(CPU, num_devices=8, topology="cpu:8")


def _choices(cache: Path, meshing: Meshing, replicas: int | None) -> Choices:
    return Choices(
        cache_dir=str(cache),
        device="cpu:8",
        batch_sizes="1,8",
        shapes=(),
        tags="serve",
        autotune="fast",
        disabled_passes=(),
        precision="auto",
        keep_f32=(),
        compression=CompressionFlags(),
        meshing=meshing,
        replicas=replicas,
        disable_optimizer=False,
        intra_op_threads=None,
        per_model_batching=False,
        verbose=False,
    )


def _key(tmp_path: Path, target: Target, meshing: Meshing, replicas: int | None = None) -> str:
    model = tmp_path / "model"
    model.mkdir(exist_ok=True)
    (model / "saved_model.pb").write_bytes(b"")
    with Bridges() as bridges:
        cache = _choices(tmp_path, meshing, replicas).cache(target, bridges)
        return cache._key(model)[0]


def test_devices_meshes_and_layouts_have_artifacts_of_their_own(tmp_path: Path) -> None:
    four = dataclasses.replace(EIGHT, num_devices=4, topology="cpu:4")
    keys = [
        _key(tmp_path, CPU, Meshing()),
        _key(tmp_path, EIGHT, Meshing()),
        _key(tmp_path, four, Meshing()),
        _key(tmp_path, EIGHT, Meshing(goal="latency")),
        _key(tmp_path, EIGHT, Meshing(mesh="2x4")),
        _key(tmp_path, EIGHT, Meshing(shards=("table=0:model",))),
    ]
    assert len(set(keys)) == len(keys)
    assert _key(tmp_path, EIGHT, Meshing(), replicas=2) == keys[2]
    assert _key(tmp_path, EIGHT, Meshing(), replicas=8) == keys[0]
    assert _key(tmp_path, CPU, Meshing(mesh="2x4")) == keys[0]


def test_choices_are_the_same_after_their_way_to_another_process(tmp_path: Path) -> None:
    meshing = Meshing(mesh="2x4", shards=("a=0:model", "b=none"), shard_policy="last")
    chosen = _choices(tmp_path, meshing, 2)
    assert Choices.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen
    assert hash(chosen) == hash(Choices.from_json(chosen.to_json()))
