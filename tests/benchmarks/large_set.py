"""A set that is larger than the memory that it is trained in.

    python -m tests.benchmarks.large_set [--gib 4] [--limit-gib 1] [--steps 300] [--residency auto] [--folder DIR]

Writes a set of images in the canonical form, whose values follow from a rule, and trains a small model on it in a
process of its own under hard limits:

- RLIMIT_DATA, everywhere: the process can have no more memory of its own (heap, stacks, private mappings).
- a control group, where this user may make one (root): all that the process holds, the pages of files that it has read
  among them, which the system takes back when the limit is reached.

What is printed of the memory is measured while it trains: `own` is anonymous memory (RssAnon), which is what a process
needs; the pages of the set that the system keeps because there is room (page cache) are no memory of the process, and
count in the group's line alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from vae_models.data import stored
from vae_models.data.canonical import SPLITS
from vae_models.data.ingest.writer import draft
from vae_models.data.spec import AXES, DataSpec

GIB = 2**30
SHAPE = (3, 32, 32)
ROWS_AT_ONCE = 4096


def write(into: Path, set_bytes: int, *, values: bool = True) -> Path:
    """Write a set of about so many bytes and return its folder; values: by a rule, else all are 0 and none written."""
    row_bytes = int(np.prod(SHAPE))
    count = set_bytes // row_bytes
    sizes = (count - 2000, 1000, 1000)
    facts = DataSpec(shape=SHAPE, axes=AXES, support="bytes", sizes=sizes)
    block = np.random.default_rng(0).integers(0, 256, (ROWS_AT_ONCE, *SHAPE), dtype=np.uint8)
    with draft(into, workers=2) as made:
        shards = made.allocate(dict(zip(SPLITS, sizes, strict=True)), SHAPE, np.dtype(np.uint8))
        for name in SPLITS if values else ():
            for start in range(0, shards[name].count, ROWS_AT_ONCE):
                rows = min(ROWS_AT_ONCE, shards[name].count - start)
                shards[name].write(start, block[:rows] ^ np.uint8(start // ROWS_AT_ONCE % 256))
        folder = made.finish(facts, made={"rule": "random rows, xor the number of their block"}, source={})
    for path in folder.iterdir():
        with path.open("rb") as file:  # what is read later comes from the disk, and counts in the reader's group
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return folder


def run(
    folder: Path, residency: str, steps: int, limit_bytes: int | None = None, batch_size: int = 128
) -> dict[str, Any]:
    """Train in a process of its own: {"ended": exit status, "seconds", "own", "group", ...}, memory in bytes."""
    command = [sys.executable, "-m", "tests.benchmarks.large_set", "--train", str(folder), "--residency", residency]
    command += ["--steps", str(steps), "--batch-size", str(batch_size)]

    def limit() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))

    environment = {**os.environ, "OMP_NUM_THREADS": "2", "MALLOC_ARENA_MAX": "4"}
    began = time.monotonic()
    with _group(limit_bytes) as group, tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, text=True, preexec_fn=limit, env=environment
        )
        if group is not None:
            (group / "cgroup.procs").write_text(str(child.pid))
        own = files = 0
        while child.poll() is None:
            anonymous, mapped = _memory(child.pid)
            own, files = max(own, anonymous), max(files, mapped)
            time.sleep(0.02)
        most = _most_of(group)
        said.seek(0)
        text = said.read()
    lines = [line for line in text.splitlines() if line.startswith("{")]
    return {
        "ended": child.returncode,
        "seconds": time.monotonic() - began,
        "own": own,
        "mapped_files": files,
        "group": most,
        "said": text[-2000:],
        **(json.loads(lines[-1]) if lines else {}),
    }


def _memory(pid: int) -> tuple[int, int]:
    """(RssAnon, RssFile) in bytes."""
    found = {"RssAnon:": 0, "RssFile:": 0}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, *rest = line.split()
            if name in found:
                found[name] = int(rest[0]) * 1024
    return found["RssAnon:"], found["RssFile:"]


@contextmanager
def _group(limit_bytes: int | None) -> Iterator[Path | None]:
    """A control group below this process's own, with the limit; None where none can be made."""
    made = None
    if limit_bytes is not None:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                root = Path("/sys/fs/cgroup") / controllers
                folder = root / path.lstrip("/") / f"vaesvc-large-set-{os.getpid()}"
                setting = "memory.limit_in_bytes" if controllers else "memory.max"
                with suppress(OSError):
                    folder.mkdir()
                    try:
                        (folder / setting).write_text(str(limit_bytes))
                        made = folder
                        break
                    except OSError:
                        folder.rmdir()
    try:
        yield made
    finally:
        if made is not None:
            for _ in range(50):  # the last pages are given back a moment after the process
                with suppress(OSError):
                    made.rmdir()
                    break
                time.sleep(0.1)


def _most_of(group: Path | None) -> int | None:
    for name in ("memory.max_usage_in_bytes", "memory.peak"):
        if group is not None and (group / name).exists():
            return int((group / name).read_text())
    return None


def train(folder: Path, residency: str, steps: int, batch_size: int) -> None:
    """Train on the set, and print what came of it."""
    from vae_models.config.train import TrainConfig
    from vae_models.data.shards import opened
    from vae_models.training import loop
    from vae_models.training.context import LocalContext

    made = stored.read(folder)
    facts = made.spec.model_dump(exclude={"digest"})
    config = TrainConfig.model_validate(
        {
            "data": {"name": "large", "digest": made.digest, "facts": facts, "residency": residency},
            "model": {"latent": 16, "backbone": {"kind": "mlp", "hidden": [64]}, "likelihood": {"kind": "gaussian"}},
            "batch_size": batch_size,
            "steps": steps,
            "evaluation": {"batch_size": 128, "test": False, "pictures": False},
        }
    )
    with tempfile.TemporaryDirectory(prefix="vaesvc-large-set-") as scratch:
        began = time.monotonic()
        result = loop.train(config, LocalContext(Path(scratch)), dataset=opened("large", made))
    loss, seconds = result.metrics["train/loss"], time.monotonic() - began
    print(json.dumps({"steps": result.steps, "loss": loss, "training_seconds": seconds}))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.large_set", description=__doc__)
    parser.add_argument("--gib", type=float, default=4.0, help="size of the set, GiB")
    parser.add_argument("--limit-gib", type=float, default=1.0, help="memory of the process, GiB")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--residency", default="auto", choices=("auto", "device", "host", "stream"))
    parser.add_argument("--folder", type=Path, help="where the set is written; default: a temporary folder")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train is not None:
        train(options.train, options.residency, options.steps, options.batch_size)
        return 0
    with tempfile.TemporaryDirectory(prefix="vaesvc-large-set-", dir=options.folder) as scratch:
        began = time.monotonic()
        folder = write(Path(scratch), int(options.gib * GIB))
        size = stored.read(folder).manifest.bytes
        print(f"set: {size / GIB:.2f} GiB, written in {time.monotonic() - began:.0f} s")
        ended = run(folder, options.residency, options.steps, int(options.limit_gib * GIB), options.batch_size)
    if ended["ended"] != 0:
        print(f"residency {options.residency}: ended with {ended['ended']}\n{ended['said']}")
        return 1
    group = "no control group could be made" if ended["group"] is None else f"{ended['group'] / GIB:.2f} GiB"
    print(
        f"residency {options.residency}: {ended['steps']} steps of {options.batch_size} in "
        f"{ended['training_seconds']:.1f} s, loss {ended['loss']:.2f} nats per datum\n"
        f"limit {options.limit_gib:.2f} GiB; own memory at most {ended['own'] / GIB:.2f} GiB; mapped files at most "
        f"{ended['mapped_files'] / GIB:.2f} GiB; group with page cache at most {group}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
