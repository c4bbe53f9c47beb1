"""Sequences in batches: every datum once per epoch, masks that are the lengths, whoever reads them from wherever."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data import stored_sets
from vae_models.data.batching import BatchPlan, rank_slice
from vae_models.data.config import DataConfig
from vae_models.data.records import Dataset, Split
from vae_models.data.residency import Place, reside
from vae_models.data.sequences import Sequences, bucketed, padding
from vae_models.data.shards import opened
from vae_models.data.spec import DataSpec
from vae_models.records import Batch

CPU = torch.device("cpu")
TEXT = DataSpec(shape=(12,), axes=("time",), support="tokens", sizes=(40, 9, 9), vocabulary=9, lengths=True)
CONFIG = DataConfig(name="mnist")


@given(
    n=st.integers(1, 80),
    batch_size=st.integers(1, 100),
    window=st.integers(1, 4),
    seed=st.integers(0, 2**63 - 1),
    epochs=st.integers(1, 4),
)
def test_every_datum_once_per_epoch_in_batches_of_like_lengths(
    n: int, batch_size: int, window: int, seed: int, epochs: int
) -> None:
    lengths = torch.from_numpy(np.random.default_rng(seed).integers(1, 30, n))
    plan = BatchPlan(n, batch_size, seed, order=bucketed(lengths, batch_size, seed, window=window))
    batches = [plan.indices(step) for step in range(-(-n * epochs // batch_size))]
    assert all(batch.shape == (batch_size,) for batch in batches)
    stream = torch.cat(batches).tolist()
    for epoch in range(epochs):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))
    other = BatchPlan(n, batch_size, seed, order=bucketed(lengths, batch_size, seed, window=window))
    for step in reversed(range(len(batches))):  # a function of the step: asked in any order
        assert torch.equal(other.indices(step), batches[step])


def test_little_is_padding_and_every_epoch_is_another() -> None:
    """Of lengths as sentences have them: within each batch they are alike, in every epoch, and n is no multiple."""
    lengths = torch.from_numpy(np.random.default_rng(0).geometric(1 / 20, 10_007).clip(1, 200))
    random = BatchPlan(len(lengths), 32, seed=1)
    like = BatchPlan(len(lengths), 32, seed=1, order=bucketed(lengths, 32, seed=1))
    steps = 2 * len(lengths) // 32
    assert padding(lengths, random, steps) > 0.6
    assert padding(lengths, like, steps) < 0.1
    assert not torch.equal(like.order(0), like.order(1))
    means = torch.stack([lengths[like.indices(step)].double().mean() for step in range(300)])
    assert abs(torch.corrcoef(torch.stack([means, torch.arange(300.0).double()]))[0, 1]) < 0.2  # not short ones first


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    lengths = [np.random.default_rng(n).integers(1, 13, n).astype(np.int32) for n in TEXT.sizes]
    folder = tmp_path_factory.mktemp("own")
    return opened("text", stored_sets.write(folder, "tokens", (12,), sizes=TEXT.sizes, lengths=lengths))


def _batches(split: Split, place: Place, steps: range, size: int, seed: int, rows: slice) -> list[Batch]:
    data = reside(split, CONFIG, CPU, torch.float32, place)
    sequences = Sequences.of(split, TEXT, data)
    reader = sequences.reader(sequences.plan(size, seed).indices, rows=rows, end=steps.stop)
    batches = [reader.batch(step, {}) for step in steps]
    reader.close()
    data.close()
    return batches


@given(
    size=st.integers(1, 60),
    workers=st.integers(1, 4),
    first=st.integers(0, 30),
    place=st.sampled_from(["device", "host", "stream"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_masks_are_the_lengths_for_any_workers_from_any_place_and_step(
    text: Dataset, size: int, workers: int, first: int, place: Place, seed: int
) -> None:
    split, steps = text.train, range(first, first + 6)
    assert split.lengths is not None
    parts = [_batches(split, place, steps, size, seed, rank_slice(size, rank, workers)) for rank in range(workers)]
    stored, plan = (
        split.x,
        Sequences.of(split, TEXT, reside(split, CONFIG, CPU, torch.float32, "device")).plan(size, seed),
    )
    for number, step in enumerate(steps):
        batches = [part[number] for part in parts]
        x, mask = torch.cat([batch.x for batch in batches]), torch.cat([batch.mask for batch in batches])
        indices = plan.indices(step)
        lengths = split.lengths[indices]
        assert (x.dtype, mask.dtype, x.shape, mask.shape) == (
            torch.int64,
            torch.bool,
            *[(size, int(lengths.max()))] * 2,
        )
        assert torch.equal(mask.sum(1), lengths)
        for row, index in enumerate(indices.tolist()):
            own = int(lengths[row])
            assert torch.equal(x[row, :own], stored[index, :own].long())
            assert not x[row, own:].any()


def test_videos_have_a_mask_that_broadcasts_and_labels() -> None:
    facts = DataSpec(
        shape=(5, 1, 2, 3), axes=("time", "channel", "height", "width"), support="bytes", sizes=(4, 1, 1), lengths=True
    )
    split = Split(
        x=torch.arange(4 * 30, dtype=torch.uint8).reshape(4, 5, 1, 2, 3),
        lengths=torch.tensor([2, 3, 1, 3]),
        labels=torch.tensor([7, 8, 9, 6]),
    )
    data = reside(split, CONFIG, CPU, torch.float32, "device")
    sequences = Sequences.of(split, facts, data)
    indices = torch.tensor([2, 0, 1])
    batch = sequences.padded(data.batch(indices, {}), indices)
    assert (tuple(batch.x.shape), tuple(batch.mask.shape)) == ((3, 3, 1, 2, 3), (3, 3, 1, 1, 1))  # type: ignore[union-attr]
    assert batch.labels.tolist() == [9, 7, 8]  # type: ignore[union-attr]
    assert torch.equal(batch.x[1, :2], split.x[0, :2] / 255)


def test_sequences_of_one_length_need_no_mask() -> None:
    facts = DataSpec(shape=(6, 2), axes=("time", "feature"), support="reals", sizes=(4, 1, 1))
    split = Split(x=torch.rand(4, 6, 2))
    data = reside(split, CONFIG, CPU, torch.float32, "device")
    sequences = Sequences.of(split, facts, data)
    assert torch.equal(sequences.plan(3, 5).indices(1), BatchPlan(4, 3, 5).indices(1))
    batch = sequences.reader(sequences.plan(3, 5).indices, end=4).batch(1, {})
    assert (batch.mask, batch.labels) == (None, None)
    assert torch.equal(batch.x, split.x[BatchPlan(4, 3, 5).indices(1)])
    images = DataSpec(shape=(1, 2, 2), axes=("channel", "height", "width"), support="bytes", sizes=(4, 1, 1))
    with pytest.raises(ValueError, match="have no time: these data are no sequences"):
        Sequences.of(split, images, data)
