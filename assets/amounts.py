"""Amounts as people read them: bytes, times and shares."""


def bytes_text(count: float) -> str:
    """``12.3 MB``: powers of ten, as disks are sold."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 999.5 * size else f"{count / size:,.0f} {unit}"
    return f"{count:.0f} B"


def seconds_text(seconds: float) -> str:
    """``8.3 s``, ``4 min 05 s``, ``2 h 07 min``, ``3 d 04 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    for limit, unit, large, small in ((5400, 1, "min", "s"), (36 * 3600, 60, "h", "min")):
        if seconds < limit:
            whole, rest = divmod(round(seconds / unit), 60)
            return f"{whole} {large} {rest:02d} {small}"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days:,} d {hours:02d} h"


def share_text(share: float) -> str:
    """``41.7%``, of a share in 0 to 1."""
    return f"{share:.1%}"
