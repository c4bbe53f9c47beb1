"""How fast pictures, arrays and tables are added, beside a plain loop over the same files.

    python -m tests.benchmarks.ingest [--files 20000] [--rounds 3]

Pictures: 20,000 PNGs of 28 x 28 and of 64 x 64 x 3 in ten folders, decoded by a loop of Pillow and numpy in one process
and added on all cores, in turn, so that both meet the same machine. What is compared is time on a core: the loop's
seconds, and the seconds of adding times the number of cores. Both are by the wall and by the processors' own count
(user and system, children included), which another load on the machine changes less. Adding also lists, divides, sums
and syncs.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vae_models.data.ingest import Options, ingest
from vae_models.data.stored import StoredSet

CLASSES = 10


def picture(rng: np.random.Generator, side: int, channels: int) -> Image.Image:
    """Something that compresses like drawings and photographs do: smooth, with noise."""
    ramp = np.add.outer(np.arange(side), np.arange(side)) * (200 // side)
    values = ramp[..., None] + rng.integers(0, 24, (side, side, channels)) + rng.integers(0, 30)
    return Image.fromarray(values.astype(np.uint8).squeeze())


def make(folder: Path, count: int, side: int, channels: int) -> None:
    rng = np.random.default_rng(0)
    kinds = []
    for _ in range(200):
        file = io.BytesIO()
        picture(rng, side, channels).save(file, "PNG")
        kinds.append(file.getvalue())
    for at in range(count):
        place = folder / f"class {at % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{at:06}.png").write_bytes(kinds[at % len(kinds)])


def loop(folder: Path) -> int:
    """What anybody writes first."""
    total = 0
    for path in sorted(folder.rglob("*.png")):
        total += np.asarray(Image.open(path)).shape[0]
    return total


def processor_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(seconds by the wall, seconds of processors)."""
    wall, processors = time.perf_counter(), processor_seconds()
    work()
    return time.perf_counter() - wall, processor_seconds() - processors


def added(path: Path, scratch: Path, options: Options | None = None) -> StoredSet:
    own = scratch / "own"
    shutil.rmtree(own, ignore_errors=True)
    return ingest(path, options, into=own)


def pictures(scratch: Path, count: int, side: int, channels: int, rounds: int) -> None:
    folder = scratch / f"png{side}"
    make(folder, count, side, channels)
    cores = len(os.sched_getaffinity(0))
    by_wall, by_processors = [], []
    for _ in range(rounds):
        loop_wall, loop_processors = timed(lambda: loop(folder))
        wall, processors = timed(lambda: added(folder, scratch))
        by_wall.append(loop_wall / (wall * cores))
        by_processors.append(loop_processors / processors)
        print(
            f"{count:,} PNGs of {side}x{side}x{channels}: loop {loop_wall:.2f} s (processor {loop_processors:.2f} s), "
            f"added on {cores} cores in {wall:.2f} s (processors {processors:.2f} s): {count / wall:,.0f} files/s"
        )
    print(
        f"  speed per core beside the loop, median of {rounds}: {statistics.median(by_wall):.2f} by the wall, "
        f"{statistics.median(by_processors):.2f} by the processors' count"
    )


def images_60000(scratch: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60_000, 28, 28), dtype=np.uint8), rng.integers(0, 10, 60_000)
    for name, save in (("npz", np.savez), ("npz, compressed", np.savez_compressed)):
        path = scratch / "set.npz"
        save(path, x=x, y=y)
        wall, processors = timed(lambda path=path: added(path, scratch))  # type: ignore[misc]
        print(f"{name} of 60,000 images of 28x28: {wall:.2f} s (processors {processors:.2f} s)")
    columns = {f"p{at}": x.reshape(60_000, -1)[:, at] for at in range(784)} | {"label": y}
    pq.write_table(pa.table(columns), scratch / "numbers.parquet")
    wall, processors = timed(lambda: added(scratch / "numbers.parquet", scratch))
    print(f"Parquet of 60,000 rows of 784 numbers, standardised: {wall:.2f} s (processors {processors:.2f} s)")
    files = []
    for values in x[:500]:
        file = io.BytesIO()
        Image.fromarray(values).save(file, "PNG")
        files.append(file.getvalue())
    pq.write_table(pa.table({"image": files * 120, "label": y}), scratch / "pictures.parquet")
    wall, processors = timed(lambda: added(scratch / "pictures.parquet", scratch))
    print(f"Parquet of 60,000 PNGs of 28x28: {wall:.2f} s (processors {processors:.2f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        pictures(scratch, arguments.files, 28, 1, arguments.rounds)
        pictures(scratch, arguments.files, 64, 3, arguments.rounds)
        images_60000(scratch)


if __name__ == "__main__":
    main()
