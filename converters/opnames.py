"""TensorFlow ops by what they need: a host, a changing variable, TF1's control flow."""

import re

CONTROL_FLOW = {"Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond"}
"""TF1's control flow. XLA has no kernel for it."""

REFERENCE = {"VariableV2", "Variable", "AutoReloadVariable"}
"""TF1's reference variables. XLA has no kernel for them."""

VARIABLES = REFERENCE | {"VarHandleOp"}

PLAIN = {f"Ref{op}": op for op in (*CONTROL_FLOW, "Identity")}
"""Ops on references → the same on values."""

CHANGES = re.compile(
    r"""(
        Assign | AssignAdd | AssignSub | Assign(Add|Sub)?VariableOp
      | (Resource)?Scatter(Nd)?(Update|Add|Sub|Mul|Div|Min|Max)
      | (Resource)?StridedSliceAssign
      | (Resource)?(Sparse)?Apply[A-Z]\w*
      | (Resource)?CountUpTo
      | (Resource)?AccumulatorApplyGradient | \w*AccumulatorTakeGradient
      | RngReadAndSkip | RngSkip | Stateful(Uniform\w*|StandardNormal\w*|TruncatedNormal
                                            |RandomBinomial)
    )$""",
    re.VERBOSE,
)
"""Ops that write to the variable in their first input."""

FILLS = re.compile(r"LookupTable(Insert|Remove)(V2)?$")
"""Ops that change a table after it was made."""

DRAWS = re.compile(
    r"""(
        Random[A-Z]\w* | TruncatedNormal | ParameterizedTruncatedNormal | Multinomial
      | \w*CandidateSampler | SampleDistortedBoundingBox(V2)? | RngReadAndSkip | RngSkip
      | Stateful(Uniform\w*|StandardNormal\w*|TruncatedNormal|RandomBinomial)
      | NonDeterministicInts | AnonymousRandomSeedGenerator | Timestamp
    )$""",
    re.VERBOSE,
)
"""Ops that give something else in each run: random numbers, and the time."""

HOST = re.compile(
    r"""(
        \w*(HashTable|LookupTable|DenseHashTable)\w* | InitializeTable\w*
      | \w*(Queue|Reader|Barrier|Iterator|Dataset|StagingArea)(V\d)? | Queue\w+ | Reader\w+
      | (Multi\w*)?Iterator\w+ | Stage | Unstage | MapStage | MapUnstage
      | (Eager)?PyFunc(Stateless)? | Print | PrintV2 | Timestamp
      | Decode\w+ | ReadFile | MatchingFiles
    )$""",
    re.VERBOSE,
)
"""Ops that run on the host whatever the dtypes of their tensors say."""

SEEDED = re.compile(
    r"""Stateless(
        Random\w* | TruncatedNormal(V2)? | ParameterizedTruncatedNormal | Multinomial | Shuffle
      | SampleDistortedBoundingBox
    )$""",
    re.VERBOSE,
)
"""Ops that draw the same numbers from the same seed, but for XLA, which draws others."""

PLUMBING = {"Const", "Identity", "IdentityN", "PartitionedCall", "StatefulPartitionedCall"}
"""Ops that carry tensors of any dtype: nobody's reason."""

SIZED_BY_DATA = {"Where", "Unique", "NonMaxSuppressionV3"}
"""Ops that XLA has kernels for, whose shapes of bounded but unknown size nothing compiles."""

LONGER = "_beyond_steps"
"""In the names of the functions of a loop that goes on where the steps of a device end."""
