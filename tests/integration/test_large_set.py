"""A set that is larger than the memory of the process trains from the disk, and not in memory."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks import large_set

MIB = 2**20
SET, LIMIT = 512 * MIB, 448 * MIB


def test_a_set_that_does_not_fit_is_streamed(tmp_path: Path) -> None:
    """Under a hard limit of the process's own memory, which auto sees; what is measured is no mapped file."""
    folder = large_set.write(tmp_path, SET, values=False)
    streamed = large_set.run(folder, "auto", steps=5, limit_bytes=LIMIT, batch_size=16)
    assert streamed["ended"] == 0, streamed["said"]
    assert streamed["steps"] == 5
    assert streamed["own"] < LIMIT
    resident = large_set.run(folder, "device", steps=5, limit_bytes=LIMIT, batch_size=16)
    assert resident["ended"] != 0
    assert "bytes of data have no room in the device: set data.residency to auto, or to stream" in resident["said"]
