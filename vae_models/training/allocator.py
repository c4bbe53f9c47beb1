"""The CPU's memory: what a step frees is there for the next one, which takes blocks of the same sizes again."""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
LARGEST = 2**25  # bytes of a block, the most that glibc takes: larger ones are mapped one by one
KEPT = 2**31 - 1  # bytes, the most that mallopt takes


@cache
def keep_freed_memory() -> None:
    """Let this process keep what it frees: blocks of up to 32 MiB, and of them 2 GiB at the end of its heap.

    By itself glibc gives more than 128 KiB there, 64 MiB at most, back to the system, and so at the end of every step:
    the next one faults it in again, page by page, each of which the system zeroes. Other allocators are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGEST)
        mallopt(_M_TRIM_THRESHOLD, KEPT)
