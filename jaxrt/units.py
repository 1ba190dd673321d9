"""Numbers for people: bytes, operations, shares."""


def size(count: float) -> str:
    """Bytes: `417.6 MB` (powers of ten, as disks are sold)."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def flops(count: float) -> str:
    """`22.1 GFLOP`."""
    for unit in ("", "k", "M", "G"):
        if count < 1000:
            return f"{count:.3g} {unit}FLOP"
        count /= 1000
    return f"{count:.3g} TFLOP"


def percent(share: float) -> str:
    """0.92 → `92 %`; what is neither nothing nor all never reads so: `< 0.1 %`, `99.7 %`."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    digits = 1 if 0 < share < 0.01 or 0.99 < share < 1 else 0
    return f"{100 * share:.{digits}f} %"
