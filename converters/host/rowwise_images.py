"""How ops on batches of images pass on rows: see jaxrt.converters.host.rowwise."""

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rowwise import Kind, Rows, Shared, Unknown, rows
from jaxrt.converters.host.rowwise_rules import known_of, ranked_of


@rows("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea")
def resize(node: Node, images: Kind, size: Kind) -> Kind:
    dims, wanted = ranked_of(images), known_of(size)
    if dims is None or len(dims) != 3 or not isinstance(size, Shared):
        return Unknown()
    height, width = wanted if wanted is not None and len(wanted) == 2 else (None, None)
    return Rows((height, width, dims[2]))


@rows("CombinedNonMaxSuppression")
def combined(node: Node, boxes: Kind, scores: Kind, *given: Kind) -> tuple[Kind, ...]:
    """Each image chooses among its own boxes; padded to one number for all."""
    ranks = [ranked_of(boxes), ranked_of(scores)]
    total = known_of(given[1])
    shared = all(isinstance(kind, Shared) for kind in given)
    if not shared or [len(dims or ()) for dims in ranks] != [3, 2]:
        return (Unknown(),) * 4
    room = total[0] if total and not node.attrs["pad_per_class"] else None
    return Rows((room, 4)), Rows((room,)), Rows((room,)), Rows(())
