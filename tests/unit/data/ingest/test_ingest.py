"""Adding is whole or not at all, the same with any number of processes, and within bounds of memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vae_models.data import own, stored
from vae_models.data.errors import DataCorrupt, DataMissing, DataRefused
from vae_models.data.ingest import Options, Step, ingest
from vae_models.data.ingest.files import _Limits


def pictures(folder: Path, count: int, *, start: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(start, start + count):
        values = np.add.outer(np.arange(8), np.arange(8) * 3) + at
        Image.fromarray((values % 256).astype(np.uint8)).save(folder / f"{at:05}.png")
    return folder


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("thousand") / "set", 1000)


def test_the_same_digest_with_any_number_of_processes(thousand: Path, tmp_path: Path) -> None:
    digests = {ingest(thousand, Options(workers=workers), into=tmp_path / str(workers)).digest for workers in (1, 2, 3)}
    assert len(digests) == 1


def test_the_order_of_the_file_system_and_where_the_source_lies_do_not_matter(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "set", tmp_path / "b" / "set"
    pictures(pictures(first, 5), 5, start=5)
    pictures(pictures(second, 5, start=5), 5)
    assert ingest(first, into=tmp_path / "one").digest == ingest(second, into=tmp_path / "two").digest


def test_progress_counts_to_the_end_with_time_left(thousand: Path, tmp_path: Path) -> None:
    told: list[Step] = []
    ingest(thousand, Options(workers=1), into=tmp_path, progress=told.append)
    decoding = [step for step in told if step.stage == "decoding"]
    assert decoding[-1].done == decoding[-1].total == 1000
    assert decoding[-1].seconds_left == 0
    assert [step.stage for step in told if step.over] == ["decoding", "checksums"]


KILLED = """
    import os, sys
    from pathlib import Path
    from vae_models.data.ingest import Options, ingest

    def kill(step):
        if step.stage == "decoding":
            os.kill(os.getpid(), 9)

    ingest(Path(sys.argv[1]), Options(workers=int(sys.argv[3])), into=Path(sys.argv[2]), progress=kill)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_killed_half_way_leaves_no_set(thousand: Path, tmp_path: Path, workers: int) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(thousand), str(tmp_path), str(workers)]
    ended = subprocess.run(command, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    for place in tmp_path.iterdir():
        if place.is_dir():
            with pytest.raises(DataMissing):
                stored.read(place)
    made = ingest(thousand, into=tmp_path)
    assert [place.name for place in tmp_path.iterdir() if place.is_dir()] == [made.digest]
    assert not _decoders(str(tmp_path))


def _decoders(mark: str) -> list[int]:
    """Processes that still decode for what was killed; those that end by themselves are waited for."""
    for _ in range(100):
        found = [
            int(pid)
            for pid in os.listdir("/proc")
            if pid.isdecimal() and mark in _command(pid) and int(pid) != os.getpid()
        ]
        if not found:
            break
        time.sleep(0.1)
    return found


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


LIMITED = """
    import sys
    from pathlib import Path
    import numpy, pyarrow.parquet
    from vae_models.data.ingest import Options, arrays, ingest, numbers, tables

    def memory(what):  # KiB
        return int(next(line for line in open("/proc/self/status") if line.startswith(what)).split()[1])

    before = memory("VmRSS")
    ingest(Path(sys.argv[1]), Options(workers=1, scale="reals"), into=Path(sys.argv[2]))
    print(memory("VmHWM") - before)
"""


def test_a_set_larger_than_the_memory_that_is_taken(tmp_path: Path) -> None:
    """64 MiB of a compressed file go through in half of that."""
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros((2**15, 512), np.float32))
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), str(path), str(tmp_path / "own")]
    taken = int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)
    assert taken < 32 * 1024  # KiB
    (data,) = (stored.read(place) for place in (tmp_path / "own").iterdir() if place.is_dir())
    assert data.spec.sizes == (26214, 3277, 3277)


def test_the_limit_of_an_archive_grows_with_it() -> None:
    limits = _Limits(Path("a.zip"), packed=10**9)
    limits.count(15 * 10**10)
    with pytest.raises(DataRefused, match="unpacks to more than"):
        limits.count(15 * 10**10)


def test_a_source_is_decoded_once_until_it_changes(tmp_path: Path) -> None:
    folder, cache = pictures(tmp_path / "set", 10), tmp_path / "cache"
    told: list[Step] = []
    first = own.add(folder, Options(), cache, progress=told.append)
    assert told
    told.clear()
    assert own.add(folder, Options(), cache, progress=told.append).digest == first.digest
    assert not told  # nothing was decoded
    assert own.add(folder, Options(crop=(4, 4)), cache).digest != first.digest
    pictures(folder, 1, start=10)
    assert own.add(folder, Options(), cache).spec.sizes == (9, 1, 1)
    (first.folder / "train-x-00000.npy").unlink()
    (folder / "00010.png").unlink()
    assert own.add(folder, Options(), cache, progress=told.append).digest == first.digest
    stored.read(first.folder, sums=True)


def test_names_point_to_sets(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    data = own.add(pictures(tmp_path / "set", 10), Options(), cache)
    for name in ("first", "second"):
        own.point(cache, name, data.digest, "somewhere")
    for text in ("first", data.digest, data.digest[:8], str(data.folder)):
        assert own.find(cache, text).digest == data.digest
    assert own.remove(cache, "first")[1] is False
    assert own.find(cache, "second").digest == data.digest
    assert own.remove(cache, "second")[1] is True
    assert not data.folder.exists()
    with pytest.raises(DataMissing, match="Names here: none"):
        own.find(cache, "second")


@pytest.mark.parametrize("name", ["", "../x", "a b", "a/b", ".x", "0123456789abcdef"])
def test_what_is_no_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataRefused):
        own.point(tmp_path, name, "0" * 64, "")


def test_a_damaged_set_is_named(tmp_path: Path) -> None:
    data = own.add(pictures(tmp_path / "set", 10), Options(), tmp_path)
    own.point(tmp_path, "mine", data.digest, "")
    (data.folder / "data.json").write_bytes(b"{}")
    with pytest.raises(DataCorrupt, match="delete it, and add or fetch the set again"):
        own.find(tmp_path, "mine")
