"""The batch of a step is the same bits wherever the data are, and what goes wrong on a disk is told with its datum."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.unit.data import stored_sets
from vae_models import random
from vae_models.data.batching import BatchPlan, Resident, rank_slice
from vae_models.data.config import DataConfig
from vae_models.data.errors import DataCorrupt, DataUnfit
from vae_models.data.memory import free_host_bytes
from vae_models.data.records import Dataset, Split, StoredSplit
from vae_models.data.residency import ROOM, Place, Residence, place_of, reside

CPU = torch.device("cpu")
PLACES: tuple[Place, ...] = ("device", "host", "stream")
N, SHAPE = stored_sets.SIZES[0], (1, 4, 5)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    folder = tmp_path_factory.mktemp("own")
    return {kind: stored_sets.dataset(folder, kind, SHAPE) for kind in ("bytes", "unit", "reals")}


def _config(binarize: str = "none", residency: str = "auto") -> DataConfig:
    return DataConfig(name="mnist", binarize=binarize, residency=residency)  # type: ignore[arg-type]


def _batches(
    data: Resident, steps: range, *, size: int, seed: int, rows: slice = slice(None), dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """As the loop takes them."""
    plan = BatchPlan(len(data), size, seed, data.index_device)
    reader = data.reader(plan.indices, rows=rows, end=steps.stop)
    drawn = []
    for step in steps:
        noise = {
            name: random.draw(spec, size, seed=seed, step=step, stream="x", device=CPU, dtype=dtype)[rows]
            for name, spec in data.noise().items()
        }
        drawn.append(reader.batch(step, noise))
    data.close()
    return drawn


@given(
    kind=st.sampled_from([("bytes", "none"), ("bytes", "threshold"), ("bytes", "dynamic"), ("unit", "none")]),
    size=st.integers(1, 2 * N),
    workers=st.integers(1, 4),
    first=st.integers(0, 40),
    count=st.integers(1, 30),
    seed=st.integers(0, 2**63 - 1),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_batch_of_a_step_is_the_same_wherever_the_data_are(
    sets: dict[str, Dataset],
    kind: tuple[str, str],
    size: int,
    workers: int,
    first: int,
    count: int,
    seed: int,
    dtype: torch.dtype,
) -> None:
    """Whatever the number of workers, and from whichever step a run goes on."""
    split, config = sets[kind[0]].train, _config(kind[1])
    steps = range(first, first + count)

    def taken(place: Place, rows: slice) -> list[Tensor]:
        data = reside(split, config, CPU, dtype, place)
        return _batches(data, steps, size=size, seed=seed, rows=rows, dtype=dtype)

    expected = taken("device", slice(None))
    for place in ("host", "stream"):
        parts = [taken(place, rank_slice(size, rank, workers)) for rank in range(workers)]  # type: ignore[arg-type]
        for step in range(count):
            assert torch.equal(torch.cat([part[step] for part in parts]), expected[step])
    assert torch.equal(expected[0], taken("stream", slice(None))[0])


def test_stored_values_are_what_was_written(sets: dict[str, Dataset]) -> None:
    for kind, made in sets.items():
        written = stored_sets.values(kind, SHAPE)  # type: ignore[arg-type]
        for split, array in zip((made.train, made.val, made.test), written, strict=True):
            assert torch.equal(split.x, torch.from_numpy(array))
            assert torch.equal(split.rows[3:6], torch.from_numpy(array[3:6]))


@pytest.mark.parametrize("place", PLACES)
def test_a_reader_may_be_asked_for_any_step(sets: dict[str, Dataset], place: Place) -> None:
    """Lanes of one set are at different steps; a failed step is looked at again."""
    data = reside(sets["bytes"].train, _config(), CPU, torch.float32, place)
    plan = BatchPlan(N, 7, seed=3)
    reader = data.reader(plan.indices, end=40)
    for step in (0, 1, 5, 6, 2, 39, 38, 39, 60):
        assert torch.equal(reader.batch(step, {}), data.batch(plan.indices(step), {}))
    data.close()


def _copied(made: Dataset, folder: Path) -> tuple[Dataset, list[Path]]:
    """A set of its own, to be damaged."""
    stored = stored_sets.write(folder, "bytes", SHAPE)
    from vae_models.data.shards import opened

    return opened("mnist", stored), [stored.folder / file.file for file in stored.manifest.splits["train"].x]


def test_a_shard_that_was_cut_off_is_told_in_the_step_that_needs_it(sets: dict[str, Dataset], tmp_path: Path) -> None:
    made, shards = _copied(sets["bytes"], tmp_path)
    data = reside(made.train, _config(), CPU, torch.float32, "stream")
    plan = BatchPlan(N, 2, seed=0)
    os.truncate(shards[3], 128 + 20 * 5)  # of data 24 .. 31 the first 5 are left
    gone = set(range(29, 32))
    reader = data.reader(plan.indices, end=100)
    for step in range(100):
        first = [index for index in plan.indices(step).tolist() if index in gone]
        if first:
            with pytest.raises(DataCorrupt, match=rf"datum {first[0]} cannot be read from {shards[3]}: the file ends"):
                reader.batch(step, {})
            break
        reader.batch(step, {})
    assert first
    assert torch.equal(reader.batch(0, {}), data.batch(plan.indices(0), {}))  # what is whole is still read
    data.close()


def test_a_disk_that_fails_is_told_with_the_datum(
    sets: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = _copied(sets["bytes"], tmp_path)
    data = reside(made.train, _config(), CPU, torch.float32, "stream")

    def failing(*_: Any) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", failing)
    monkeypatch.setattr(os, "sendfile", failing)
    reader = data.reader(lambda step: torch.tensor([7, 3]), end=4)
    with pytest.raises(DataCorrupt, match=r"datum 7 cannot be read from .*train-x-00000.npy: Input/output error"):
        reader.batch(0, {})
    with pytest.raises(DataCorrupt, match=r"datum 0 cannot be read from .*train-x-00000.npy: Input/output error"):
        _ = made.train.x
    data.close()


@pytest.mark.parametrize("place", ["host", "stream"])
def test_threads_end_with_the_run(sets: dict[str, Dataset], place: str) -> None:
    before = set(threading.enumerate())
    residence = Residence(sets["bytes"], _config(residency=place), CPU, torch.float32)
    reader = residence["train"].reader(BatchPlan(N, 5, seed=0).indices, end=1000)
    reader.batch(0, {})
    mine = set(threading.enumerate()) - before
    assert mine
    residence.close()
    residence.close()
    for thread in mine:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_data_that_are_not_finite_are_named_wherever_they_are(tmp_path: Path) -> None:
    made = stored_sets.dataset(tmp_path, "reals", (3,), sizes=(9, 2, 2))
    x = made.train.x
    x[4, 1] = float("nan")
    for place in ("device", "host"):
        data = reside(Split(x=x), _config(), CPU, torch.float32, place)  # type: ignore[arg-type]
        assert data.unfit(torch.tensor([1, 4, 8])) == (4,)
        data.close()
    assert reside(made.train, _config(), CPU, torch.float32, "stream").unfit(torch.tensor([1, 4])) == ()


# --- which place ----------------------------------------------------------------------------------------------------


def _in_memory() -> Dataset:
    split = Split(x=torch.zeros((8, *SHAPE), dtype=torch.uint8))
    return Dataset(name="mnist", train=split, val=split, test=split, shape=SHAPE)


@pytest.mark.parametrize(
    ("free", "workers", "expected"),
    [(1.01, 1, "device"), (0.99, 1, "stream"), (2.02, 2, "device"), (1.98, 2, "stream")],
)
def test_auto_takes_the_first_place_with_room(
    sets: dict[str, Dataset], free: float, workers: int, expected: str
) -> None:
    """In units of the set's bytes over the share of memory that data may take."""
    set_bytes = sum(stored_sets.SIZES) * 20
    free_bytes = int(free * set_bytes / ROOM)
    assert place_of(_config(), sets["bytes"], CPU, workers=workers, free=lambda: free_bytes) == expected


def test_what_is_in_memory_stays_there() -> None:
    assert place_of(_config(), _in_memory(), CPU, free=lambda: 0) == "device"
    with pytest.raises(DataUnfit, match="mnist is decoded into memory whole: choose host or auto"):
        place_of(_config(residency="stream"), _in_memory(), CPU)
    noisy = DataConfig.model_validate({"name": "mnist", "residency": "stream", "noise": {"kind": "gaussian"}})
    with pytest.raises(DataUnfit, match=r"data\.noise is drawn for the whole set at once"):
        place_of(noisy, _in_memory(), CPU)


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_was_asked_for_is_taken(sets: dict[str, Dataset], place: Place) -> None:
    assert place_of(_config(residency=place), sets["bytes"], CPU, free=lambda: 0) == place


GIB = 2**30


@pytest.fixture
def system(tmp_path: Path) -> tuple[Path, Path]:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    cgroup.mkdir()
    (proc / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {20 * GIB // 1024} kB\n")
    return proc, cgroup


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("container", [True, False], ids=["host's path", "own path"])
def test_a_control_groups_limit_counts(system: tuple[Path, Path], version: int, container: bool) -> None:
    """Of the group or one above it; what it holds of files gives way. In a container its path is the host's."""
    proc, cgroup = system
    root = cgroup if version == 2 else cgroup / "memory"
    group = root if container else root / "jobs" / "one"
    group.mkdir(parents=True, exist_ok=True)
    (proc / "self" / "cgroup").write_text("0::/jobs/one\n" if version == 2 else "1:cpu:/\n4:memory:/jobs/one\n0::/\n")
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    (group / names[0]).write_text(f"{4 * GIB}\n")
    (group / names[1]).write_text(f"{3 * GIB}\n")
    (group / "memory.stat").write_text(f"{names[2]} {GIB}\nother 5\n")
    assert free_host_bytes(proc, cgroup) == 2 * GIB


def test_no_limit_is_the_machines(system: tuple[Path, Path]) -> None:
    proc, cgroup = system
    assert free_host_bytes(proc, cgroup) == 20 * GIB
    (proc / "self" / "cgroup").write_text("0::/\n")
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("5\n")
    (cgroup / "memory.stat").write_text("inactive_file 1\n")
    assert free_host_bytes(proc, cgroup) == 20 * GIB
    assert isinstance(free_host_bytes(), int)


def test_a_stored_split_is_not_read_before_it_is_asked_for(sets: dict[str, Dataset]) -> None:
    split = sets["bytes"].val
    assert isinstance(split, StoredSplit)
    assert (len(split), split.rows.dtype, tuple(split.rows.shape)) == (13, torch.uint8, (13, *SHAPE))
    assert np.array_equal(split.rows.read([np.array([12, 0, 12])])[0].numpy(), split.x[[12, 0, 12]].numpy())
