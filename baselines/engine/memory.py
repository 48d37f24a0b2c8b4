"""Memory that is freed stays with the process, so that the next update need not fault it in again.

The C library gives large blocks back to the system when they are freed. An update of CQL allocates
and frees hundreds of megabytes, and the pages of every one of them are then mapped and zeroed anew,
which took a third of its time on a CPU, and half with five members. Nothing here matters on a GPU,
where PyTorch keeps what it has.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Options of mallopt(3)."""
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tells the C library to keep what this process frees, from now on.

    Returns:
        Whether it can be told: glibc can, other libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _NEVER) and mallopt(_M_MMAP_MAX, 0))
