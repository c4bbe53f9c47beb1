"""The CPU's memory: what a step frees is there for the next one, which takes blocks of the same sizes again."""

from __future__ import annotations

from functools import cache

import torch

# glibc maps blocks from a threshold on one by one, and gives the end of its heap back to the system where more than
# twice as much is free. The threshold rises to the largest such block that was freed, up to 32 MiB.
LARGEST = 2**25 - 2**16  # bytes; with what the allocator adds it is below that


@cache
def keep_freed_memory() -> None:
    """Let this process keep up to 64 MiB of freed memory, as glibc does by itself once a block of 32 MiB was freed.

    Until then a step of a small net may give a few MiB back at its end, and fault them in again at its beginning: page
    by page, each of which the system zeroes. Nothing is written to the block, so it takes no memory; other allocators
    take it as any other.
    """
    torch.empty(LARGEST, dtype=torch.uint8)
