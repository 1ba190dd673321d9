"""StableHLO → jaxpr. Importing this package fills the table of rules."""

from jaxrt.converters.lift import chlo as chlo
from jaxrt.converters.lift import collective as collective
from jaxrt.converters.lift import contraction as contraction
from jaxrt.converters.lift import control_flow as control_flow
from jaxrt.converters.lift import custom_call as custom_call
from jaxrt.converters.lift import elementwise as elementwise
from jaxrt.converters.lift import factorization as factorization
from jaxrt.converters.lift import indexing as indexing
from jaxrt.converters.lift import linalg as linalg
from jaxrt.converters.lift import random as random
from jaxrt.converters.lift import reduction as reduction
from jaxrt.converters.lift import selection as selection
from jaxrt.converters.lift import shape as shape
from jaxrt.converters.lift import sorting as sorting
from jaxrt.converters.lift import top_k as top_k
from jaxrt.converters.lift import windows as windows
