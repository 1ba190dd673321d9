"""`--device` and what goes with it: which devices programs are for, and how they share the work."""

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from jaxrt.cli.flags.flag import Flag, Section, group
from jaxrt.errors import UsageError
from jaxrt.mesh import MeshShape

if TYPE_CHECKING:  # they import jax: loaded once the arguments were found to be right
    from jaxrt.layouts import LayOut
    from jaxrt.target import Target

SIZE = "size"
"""Of compression alone: plans are then as for the first of GOALS."""

GOALS = ("throughput", "latency", SIZE)
"""`jaxrt.tpu.choose.Goal`, and SIZE."""

POLICIES = ("fixed", "first", "last", "alternate", "largest")
"""`jaxrt.tpu.overrides.Dimension`."""

MIN_RANK = 2
MIN_ELEMENTS = 1 << 16

SECTION = Section(
    "Devices and meshes",
    "Programs are for a device of this machine, or for TPUs and GPUs that are elsewhere: `jaxrt "
    "targets` lists them. On several devices a plan says which dimension of each weight and input "
    "is split over them. It is found by itself; these flags change it.",
)

device_option = click.option(
    "--device",
    cls=Flag,
    section=SECTION,
    default="cpu",
    show_default=True,
    metavar="cpu|gpu|tpu|NAME",
    help="Attached devices: cpu, gpu or tpu; cpu:8 shows this machine as eight devices, to try "
    "plans. For `jaxrt compile` also devices that are elsewhere: h100, v5e:2x4.",
)

mesh_options = group(
    click.option(
        "--optimize",
        "goal",
        cls=Flag,
        section=SECTION,
        type=click.Choice(GOALS),
        default=GOALS[0],
        show_default=True,
        help="What a plan for several devices is chosen by: rows a second at the largest batch "
        "size, for which it may run replicas on fewer devices each; or the time of a call at the "
        "smallest batch size, on one mesh of all devices. size: weights are compressed though "
        "programs get slower by it.",
    ),
    click.option(
        "--mesh",
        cls=Flag,
        section=SECTION,
        metavar="DATAxMODEL",
        help="The mesh, instead of the best one: 2x4 splits batches in 2 and weights in 4.",
    ),
    click.option(
        "--shard",
        "shards",
        cls=Flag,
        section=SECTION,
        multiple=True,
        metavar="REGEX=DIM:AXIS",
        help="Split the weights whose names REGEX finds along dimension DIM over the mesh axis "
        "model or data, such as 'embedding=0:model'; REGEX=none keeps them whole. May be given "
        "several times: the first that finds a name decides.",
    ),
    click.option(
        "--shard-policy",
        cls=Flag,
        section=SECTION,
        metavar="POLICY",
        help="Split every weight alike over the mesh axis model: first, last, alternate, largest "
        "or fixed:DIM, as in the optimized TensorFlow runtime.",
    ),
    click.option(
        "--shard-min-rank",
        cls=Flag,
        section=SECTION,
        type=click.IntRange(min=1),
        default=MIN_RANK,
        show_default=True,
        help="Weights of fewer dimensions stay whole under --shard-policy.",
    ),
    click.option(
        "--shard-min-elements",
        cls=Flag,
        section=SECTION,
        type=click.IntRange(min=1),
        default=MIN_ELEMENTS,
        show_default=True,
        help="Weights of fewer elements stay whole under --shard-policy.",
    ),
)
"""What decides how several devices share the work."""

topology_option = click.option(
    "--topology",
    cls=Flag,
    section=SECTION,
    metavar="NAME",
    help="The slice or the GPUs to compile for, which need not be here: --device tpu --topology "
    "v5e:2x4, v5litepod-8; --device gpu --topology h100:4.",
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Meshing:
    """The flags of `mesh_options` by their names, in a form that JSON can carry."""

    goal: str = GOALS[0]
    mesh: str | None = None
    shards: tuple[str, ...] = ()
    shard_policy: str | None = None
    shard_min_rank: int = MIN_RANK
    shard_min_elements: int = MIN_ELEMENTS

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"shards": list(self.shards)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Meshing":
        return cls(**{**value, "shards": tuple(value["shards"])})

    @property
    def plain(self) -> bool:
        """Whether a plan is found without orders."""
        return self == Meshing(goal=self.goal)

    def check(self) -> None:
        """Raises UsageError for texts that mean nothing."""
        from jaxrt.tpu.overrides import parse_rule

        for text in self.shards:
            parse_rule(text)
        self._mesh()
        self._policy()

    def lay_out(self, target: "Target") -> "LayOut | None":
        """How programs are laid out on a target; None: whole, on the one attached device."""
        from jaxrt.tpu import targets
        from jaxrt.tpu.choose import Goal
        from jaxrt.tpu.overrides import parse_rule
        from jaxrt.tpu.together import Orders

        orders = Orders(
            goal=Goal(GOALS[0] if self.goal == SIZE else self.goal),
            rules=tuple(parse_rule(text) for text in self.shards),
            policy=self._policy(),
            mesh=self._mesh(),
        )
        return targets.laying(target, orders)

    def _mesh(self) -> MeshShape | None:
        if self.mesh is None:
            return None
        found = re.fullmatch(r"([1-9][0-9]*)[x×]([1-9][0-9]*)", self.mesh)
        if found is None:
            raise UsageError(f"--mesh {self.mesh!r}: want DATAxMODEL, such as 2x4")
        return MeshShape(data=int(found[1]), model=int(found[2]))

    def _policy(self) -> Any:
        from jaxrt.tpu.overrides import Dimension, WeightPolicy

        if self.shard_policy is None:
            return None
        name, _, fixed = self.shard_policy.partition(":")
        given = re.fullmatch(r"-?[0-9]+", fixed) is not None
        if name not in POLICIES or (name == "fixed") != given or (fixed and not given):
            raise UsageError(
                f"--shard-policy {self.shard_policy!r}: want first, last, alternate, largest or "
                "fixed:DIM, such as fixed:-1"
            )
        return WeightPolicy(
            dimension=Dimension(name),
            fixed=int(fixed) if given else 0,
            min_rank=self.shard_min_rank,
            min_elements=self.shard_min_elements,
        )


def target(device: str, topology: str | None = None) -> "Target":
    """The target that flags name; to be called before anything else uses jax.

    Raises UsageError, and DeviceError where no such device is attached or the platform's compiler
    is not installed.
    """
    from jaxrt import target as core
    from jaxrt.tpu import targets

    found = targets.named(device, topology)
    if found is None:
        return targets.together(core.select(device))
    core.select("cpu")  # what runs here runs on the CPU
    return targets.elsewhere(found)
