"""The CPU's memory: what a step frees is kept for the next one, which takes the same blocks again."""

from __future__ import annotations

import ctypes
import functools

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # <malloc.h>
_MOST = 2**31 - 1  # bytes; the setting is a C int


@functools.cache
def keep_freed_memory() -> bool:
    """Asks glibc not to give freed blocks back to the kernel; True if it will not. Once for the process.

    Activations and optimizer terms of a few MiB are otherwise mapped anew at every step, and each page of them is
    zeroed by the kernel at its first use. The process keeps the most memory that it ever needed at a time. Other C
    libraries (musl, macOS) have no such setting: False, and all is as before.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(name, value) for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _MOST))
    )
