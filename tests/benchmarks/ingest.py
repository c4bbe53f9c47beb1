"""How fast pictures, arrays and tables are added, beside a plain loop over the same files.

    python -m tests.benchmarks.ingest [--files 20000] [--rounds 3] [--pictures-only]

Pictures: 20,000 PNGs of 28 x 28 and of 64 x 64 x 3 in ten folders, decoded by a loop of Pillow and numpy in one process
and added on all cores, in turn, so that both meet the same machine. Three ratios, each the loop's seconds over those of
adding, the median over the rounds:

    on all cores  seconds by the wall of as many loops at once as there are cores, each with its share of the files
    one core      seconds by the wall of one loop, over those of adding times the number of cores: what adding does one
                  thing after the other (listing, dividing, checksums) counts against it, and all other load twice
    processors    seconds that the processors count for one loop and for adding, user and system, children included

Adding also lists, divides, sums and syncs.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
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


def decode(paths: Sequence[Path]) -> int:
    total = 0
    for path in paths:
        total += np.asarray(Image.open(path)).shape[0]
    return total


def loop(folder: Path) -> int:
    """What anybody writes first."""
    return decode(sorted(folder.rglob("*.png")))


def loops(folder: Path, cores: int) -> None:
    """Run the same on all cores: every process has its share of the files."""
    paths, context = sorted(folder.rglob("*.png")), multiprocessing.get_context("fork")
    processes = [context.Process(target=decode, args=(paths[first::cores],)) for first in range(cores)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


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
    ratios: dict[str, list[float]] = {"on all cores": [], "one core": [], "processors": []}
    for _ in range(rounds):
        loop_wall, loop_processors = timed(lambda: loop(folder))
        wall, processors = timed(lambda: added(folder, scratch))
        loops_wall, _ = timed(lambda: loops(folder, cores))
        for name, ratio in zip(
            ratios, (loops_wall / wall, loop_wall / (wall * cores), loop_processors / processors), strict=True
        ):
            ratios[name].append(ratio)
        print(
            f"{count:,} PNGs of {side}x{side}x{channels}: loop {loop_wall:.2f} s (processor {loop_processors:.2f} s), "
            f"{cores} loops at once {loops_wall:.2f} s, added on {cores} cores in {wall:.2f} s (processors "
            f"{processors:.2f} s): {count / wall:,.0f} files/s"
        )
    medians = ", ".join(f"{name} {statistics.median(each):.2f}" for name, each in ratios.items())
    print(f"  speed beside the loop, median of {rounds}: {medians}")


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
    parser.add_argument("--pictures-only", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        pictures(scratch, arguments.files, 28, 1, arguments.rounds)
        pictures(scratch, arguments.files, 64, 3, arguments.rounds)
        if not arguments.pictures_only:
            images_60000(scratch)


if __name__ == "__main__":
    main()
