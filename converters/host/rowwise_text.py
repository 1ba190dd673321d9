"""How ops on text pass on rows: see jaxrt.converters.host.rowwise."""

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rowwise import Kind, Rows, Shared, Unknown, rows
from jaxrt.converters.host.rowwise_rules import ranked_of


@rows("DecodeCSV")
def decode_csv(node: Node, records: Kind, *defaults: Kind) -> tuple[Kind, ...]:
    """Every column has the rows of the records."""
    count = len(node.attrs["OUT_TYPE"])
    shared = all(isinstance(kind, Shared) for kind in defaults)
    return (records if shared and isinstance(records, Rows) else Unknown(),) * count


@rows("DecodePaddedRaw")
def decode_padded_raw(node: Node, x: Kind, length: Kind) -> Kind:
    """Not DecodeRaw: it wants strings as long as each other."""
    dims = ranked_of(x)
    return Rows((*dims, None)) if dims is not None and isinstance(length, Shared) else Unknown()
