"""A version whose requests wait in TensorFlow Serving's batching queues.

There is one queue for each set of input and output tensors: signatures that feed and fetch the
same tensors of the graph share theirs.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from jaxrt.errors import Unavailable
from jaxrt.serving.engine import merging
from jaxrt.serving.engine.batchpool import BatchPool
from jaxrt.serving.engine.batchqueue import BatchQueue, Part
from jaxrt.serving.engine.parameters import BatchingParameters
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.engine.task import Ticket
from jaxrt.specs import SignatureSpec, TensorSpec

Run = Callable[[str, HostTensors, float | None], Awaitable[HostTensors]]
"""Signature, inputs by alias, deadline → all outputs by alias."""

_Names: TypeAlias = Mapping[str, str]
"""Alias → the tensor, as queues name it."""


class Session:
    """The queues of one version. Used from one event loop."""

    def __init__(
        self,
        signatures: Mapping[str, SignatureSpec],
        parameters: BatchingParameters,
        pool: BatchPool,
        run: Run,
    ) -> None:
        self.parameters = parameters
        self._pool = pool
        self._run = run
        self._inputs = {key: _names(key, spec.inputs) for key, spec in signatures.items()}
        self._outputs = {key: _names(key, spec.outputs) for key, spec in signatures.items()}
        self._queues: dict[tuple[frozenset[str], frozenset[str]], BatchQueue] = {}
        self._queue_of = {key: self._queue(key) for key in signatures}

    async def predict(
        self, signature: str, inputs: HostTensors, deadline: float | None
    ) -> HostTensors:
        """One request → all outputs of its signature.

        Raises InvalidArgument when it cannot be batched, Unavailable when its queue is full,
        ResourceExhausted when its time ran out in there, and what its batch raises.
        """
        names = self._inputs[signature]
        rows = merging.common_size(inputs[alias] for alias in names)
        if not rows:
            # TensorFlow Serving lets it wait until a request with rows comes along.
            return await self._run(signature, inputs, deadline)
        queue = self._queue_of[signature]
        sizes = self._cut(queue, rows)
        for _ in names:
            self._pool.observer.accepted(rows)
        ticket = Ticket(asyncio.get_running_loop().create_future(), len(sizes))
        tensors = {name: inputs[alias] for alias, name in names.items()}
        parts = self._parts(tensors, sizes, deadline, ticket)
        for part in parts:
            queue.add(part, part.arrival)
        self._pool.wake(queue)
        try:
            outputs = await ticket.future
        except BaseException:  # other parts of it may still wait, or all if the caller left
            for part in parts:
                queue.discard(part)
            raise
        return {alias: outputs[name] for alias, name in self._outputs[signature].items()}

    def drain(self) -> None:
        """What waits starts as soon as a thread is free."""
        for queue in self._queues.values():
            queue.draining = True
            if queue:
                self._pool.wake(queue)

    def _cut(self, queue: BatchQueue, rows: int) -> list[int]:
        try:
            return queue.cut(rows)
        except Unavailable:
            self._pool.pump()  # a thread may be free that has not been told yet
            return queue.cut(rows)

    def _parts(
        self, tensors: HostTensors, sizes: list[int], deadline: float | None, ticket: Ticket
    ) -> list[Part]:
        now = self._pool.clock()
        parts = []
        start = 0
        for number, size in enumerate(sizes):
            piece = tensors
            if len(sizes) > 1:
                piece = {name: x[start : start + size] for name, x in tensors.items()}
            start += size
            parts.append(
                Part(
                    tensors=piece,
                    rows=size,
                    arrival=now,
                    deadline=deadline,
                    ticket=ticket,
                    number=number,
                )
            )
        return parts

    def _queue(self, signature: str) -> BatchQueue:
        """The queue of its tensors; the first signature that has them runs its batches."""
        key = (
            frozenset(self._inputs[signature].values()),
            frozenset(self._outputs[signature].values()),
        )
        if key not in self._queues:
            execute = functools.partial(self._execute, signature)
            self._queues[key] = BatchQueue(self.parameters, execute)
        return self._queues[key]

    async def _execute(
        self, signature: str, tensors: HostTensors, deadline: float | None
    ) -> HostTensors:
        inputs = {alias: tensors[name] for alias, name in self._inputs[signature].items()}
        outputs = await self._run(signature, inputs, deadline)
        return {name: outputs[alias] for alias, name in self._outputs[signature].items()}


def _names(signature: str, tensors: Mapping[str, TensorSpec]) -> _Names:
    """The graph's names; where two aliases have the same one, names of the signature's own."""
    found = {alias: tensor.name for alias, tensor in tensors.items()}
    if len(set(found.values())) < len(found) or not all(found.values()):
        return {alias: f"{signature}/{alias}" for alias in found}
    return found
