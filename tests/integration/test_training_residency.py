"""Stream equals resident: whole runs from the disk, of memory and of a device, stopped, gone on with and shared."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import gangs
from tests.unit.data import stored_sets
from vae_models.config.shape import shape_of
from vae_models.config.train import TrainConfig
from vae_models.data import DataCorrupt, Dataset
from vae_models.data.shards import opened
from vae_models.training import checkpoint
from vae_models.training.context import LocalContext
from vae_models.training.lanes import train_pack
from vae_models.training.loop import train

SIZES, STEPS = (45, 15, 10), 23
PLACES = ("device", "host", "stream")


def _config(residency: str, **fields: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "data": {"name": "mnist", "binarize": "dynamic", "residency": residency},
            "model": {"latent": 2, "backbone": {"kind": "mlp", "hidden": [12]}},
            "optimizer": {"lr": 0.01},
            "batch_size": 8,
            "steps": STEPS,
            "log_every_steps": 5,
            "evaluation": {"every_epochs": 1.5, "batch_size": 4, "train": True},
            "checkpoint": {"every_steps": 4},
        }
        | fields
    )


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of six shards and more."""
    return stored_sets.write(tmp_path_factory.mktemp("own"), shape=(1, 28, 28), sizes=SIZES).folder


def _open(folder: Path) -> Dataset:
    from vae_models.data import stored

    return opened("mnist", stored.read(folder))


def _outcome(folder: Path, steps: int = STEPS) -> tuple[dict[str, str], list[Any], dict[str, str]]:
    """Sums of all tensors of the last checkpoint; all that was logged, but for the clock's; the pictures."""
    last = folder / "checkpoints" / f"step-{steps:010d}"
    sums = {n: f.sha256 for n, f in checkpoint.verify(last).files.items() if n.endswith(".safetensors")}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["metrics"].pop("images_per_second", None)
    return sums, lines, {path.name: path.read_bytes().hex() for path in (folder / "pictures").glob("*.png")}


@pytest.fixture(scope="module")
def resident(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = tmp_path_factory.mktemp("resident")
    train(_config("device"), LocalContext(run), dataset=_open(folder))
    return _outcome(run)


@pytest.mark.parametrize("place", ["host", "stream", "auto"])
def test_a_run_is_the_same_wherever_its_data_are(folder: Path, resident: Any, tmp_path: Path, place: str) -> None:
    """Weights, optimizer, curves, evaluations of three splits and pictures, to the bit."""
    threads = set(threading.enumerate())
    train(_config(place), LocalContext(tmp_path), dataset=_open(folder))
    assert _outcome(tmp_path) == resident
    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_a_run_goes_on_with_its_data_elsewhere(folder: Path, resident: Any, tmp_path: Path) -> None:
    """Stopped after every few steps, and each time the data are at another place."""
    for attempt in range(20):
        left = [attempt + 2]

        def stop(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] <= 0

        context = LocalContext(tmp_path, stop=stop)
        if not train(_config(PLACES[attempt % 3]), context, dataset=_open(folder), poll_seconds=0).stopped:
            break
    assert attempt >= 3
    assert _outcome(tmp_path) == resident


def test_where_the_data_are_is_no_part_of_what_is_trained() -> None:
    assert shape_of(_config("stream")) == shape_of(_config("device"))
    assert _config("stream").determining() == _config("auto").determining()


def test_lanes_share_what_is_read_ahead(folder: Path, tmp_path: Path) -> None:
    """Fused and in turn, two seeds: the batches of each lane are those of a resident set."""
    outcomes = []
    for place in PLACES:
        configs = [_config(place, seed=seed, optimizer={"lr": lr}, steps=9) for seed in (0, 1) for lr in (0.01, 0.003)]
        contexts = [LocalContext(tmp_path / place / str(lane)) for lane in range(4)]
        train_pack(configs, contexts, dataset=_open(folder), width=2)
        outcomes.append([_outcome(tmp_path / place / str(lane), 9) for lane in range(4)])
    assert outcomes[0] == outcomes[1] == outcomes[2]


def _worker(rank: int, workers: int, folder: Path, run: Path, place: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{run}/meeting", rank=rank, world_size=workers)
    try:
        context = LocalContext(run / str(rank), rank=rank, world_size=workers)
        train(_config(place), context, dataset=_open(folder))
    finally:
        torch.distributed.destroy_process_group()


def test_two_workers_read_their_own_rows(folder: Path, tmp_path: Path) -> None:
    """Two workers that stream are two workers with resident data, to the bit."""
    for place in ("device", "stream"):
        (tmp_path / place).mkdir()
        gangs.run(_worker, (2, folder, tmp_path / place, place), 2)
    assert _outcome(tmp_path / "stream" / "0") == _outcome(tmp_path / "device" / "0")


def test_a_shard_that_is_cut_off_ends_the_run_with_its_name(tmp_path: Path) -> None:
    """In mid-run: the last checkpoint stays, and the run goes on from it when the set is whole again."""
    stored = stored_sets.write(tmp_path / "own", shape=(1, 28, 28), sizes=SIZES)
    made = opened("mnist", stored)
    shard = stored.folder / stored.manifest.splits["train"].x[2].file
    whole = shard.read_bytes()
    os.truncate(shard, len(whole) // 2)
    run = tmp_path / "run"
    with pytest.raises(DataCorrupt, match=rf"datum \d+ cannot be read from {shard}: the file ends before it; add or"):
        train(_config("stream"), LocalContext(run), dataset=made)
    shard.write_bytes(whole)
    train(_config("stream"), LocalContext(run), dataset=opened("mnist", stored))
    train(_config("device"), LocalContext(tmp_path / "other"), dataset=opened("mnist", stored))
    assert _outcome(run) == _outcome(tmp_path / "other")
