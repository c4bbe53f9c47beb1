"""Sequences in batches: every datum once per epoch, masks that are the lengths, whoever reads them from wherever."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.unit.data import stored_sets
from tuning.space import with_values
from vae_models.data.batching import BatchPlan, rank_slice
from vae_models.data.config import DataConfig
from vae_models.data.masks import Masks
from vae_models.data.records import Dataset, Split
from vae_models.data.residency import Place, reside
from vae_models.data.sequences import bucketed, padding
from vae_models.data.shards import opened
from vae_models.data.spec import DataSpec
from vae_models.recipes import catalogue

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


def _plan(split: Split, size: int, seed: int) -> BatchPlan:
    assert split.lengths is not None
    return BatchPlan(len(split), size, seed, order=bucketed(split.lengths, size, seed))


def _batches(
    split: Split, place: Place, steps: range, plan: BatchPlan, rows: slice, shortest: int | None
) -> list[tuple[Tensor, Tensor]]:
    data = reside(split, CONFIG, CPU, torch.float32, place)
    masks = Masks(split.lengths, TEXT.shape, TEXT.axes, CPU, shortest=shortest)
    reader = data.reader(plan.indices, rows=rows, end=steps.stop)
    batches = []
    for step in steps:
        mask = masks.of(plan.indices(step), rows)
        assert mask is not None
        batches.append((masks.cut(reader.batch(step, {}), plan.indices(step)), mask))
    reader.close()
    data.close()
    return batches


@given(
    size=st.integers(1, 60),
    workers=st.integers(1, 4),
    first=st.integers(0, 30),
    place=st.sampled_from(["device", "host", "stream"]),
    seed=st.integers(0, 1000),
    shortest=st.sampled_from([None, 1, 2, 7, 12]),
)
@settings(max_examples=40, deadline=None)
def test_masks_are_the_lengths_for_any_workers_from_any_place_and_step(
    text: Dataset, size: int, workers: int, first: int, place: Place, seed: int, shortest: int | None
) -> None:
    """Cut to the longest of the global batch, whichever part of it a worker has."""
    split, steps = text.train, range(first, first + 6)
    plan = _plan(split, size, seed)
    parts = [_batches(split, place, steps, plan, rank_slice(size, rank, workers), shortest) for rank in range(workers)]
    assert split.lengths is not None
    for number, step in enumerate(steps):
        x, mask = (torch.cat(each) for each in zip(*(part[number] for part in parts), strict=True))
        indices = plan.indices(step)
        lengths = split.lengths[indices]
        long = 12 if shortest is None else max(shortest, int(lengths.max()))
        assert (x.dtype, mask.dtype, x.shape, mask.shape) == (torch.int64, torch.bool, (size, long), (size, long))
        assert torch.equal(mask.sum(1), lengths)
        for row, index in enumerate(indices.tolist()):
            assert torch.equal(x[row], split.x[index, :long].long())
            assert mask[row, : int(lengths[row])].all()


def test_videos_have_a_mask_that_broadcasts() -> None:
    facts = DataSpec(
        shape=(5, 1, 2, 3), axes=("time", "channel", "height", "width"), support="bytes", sizes=(4, 1, 1), lengths=True
    )
    split = Split(x=torch.arange(4 * 30, dtype=torch.uint8).reshape(4, 5, 1, 2, 3), lengths=torch.tensor([2, 3, 1, 3]))
    data = reside(split, CONFIG, CPU, torch.float32, "device")
    masks = Masks(split.lengths, facts.shape, facts.axes, CPU, shortest=1)
    indices = torch.tensor([2, 0, 1])
    x, mask = masks.cut(data.batch(indices, {}), indices), masks.of(indices)
    assert mask is not None
    assert (tuple(x.shape), tuple(mask.shape)) == ((3, 3, 1, 2, 3), (3, 3, 1, 1, 1))
    assert torch.equal(x[1, :2], split.x[0, :2] / 255)


def test_data_of_one_length_need_no_mask_and_are_not_cut() -> None:
    facts = DataSpec(shape=(6, 2), axes=("time", "feature"), support="reals", sizes=(4, 1, 1))
    masks = Masks(None, facts.shape, facts.axes, CPU, shortest=1)
    x, indices = torch.rand(3, 6, 2), torch.tensor([0, 1, 3])
    assert masks.of(indices) is None
    assert torch.equal(masks.cut(x, indices), x)
    images = Masks(None, (1, 2, 2), ("channel", "height", "width"), CPU)
    assert images.of(indices) is None


def test_buckets_of_data_of_one_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"buckets puts data of like lengths .* all have one length: leave it out"):
        with_values(catalogue()["digits/beta-vae-mlp"].build(), {"data.buckets": True})
