"""Which data a batch holds, and how bytes become x."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vae_models.data import Split
from vae_models.data.batching import BatchPlan, rank_slice
from vae_models.data.config import DataConfig
from vae_models.data.residency import DeviceResident
from vae_models.random import draw

CPU = torch.device("cpu")


@given(batch=st.integers(0, 5000), world=st.integers(1, 300))
def test_rank_slices_are_a_fair_partition(batch: int, world: int) -> None:
    rows = [row for rank in range(world) for row in range(batch)[rank_slice(batch, rank, world)]]
    assert rows == list(range(batch))
    sizes = [len(range(batch)[rank_slice(batch, rank, world)]) for rank in range(world)]
    assert max(sizes) - min(sizes) <= 1


@given(n=st.integers(1, 60), batch=st.integers(1, 150), seed=st.integers(0, 2**63 - 1), epochs=st.integers(1, 4))
def test_every_datum_once_per_epoch_and_every_batch_full(n: int, batch: int, seed: int, epochs: int) -> None:
    plan = BatchPlan(n, batch, seed)
    steps = -(-n * epochs // batch)
    batches = [plan.indices(step) for step in range(steps)]
    assert all(indices.shape == (batch,) and indices.dtype == torch.int64 for indices in batches)
    stream = torch.cat(batches).tolist()
    for epoch in range(epochs):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))
    assert plan.steps_per_epoch == n / batch


@given(n=st.integers(1, 40), batch=st.integers(1, 60), order=st.lists(st.integers(0, 30), min_size=1, max_size=12))
def test_a_batch_is_a_function_of_seed_and_step(n: int, batch: int, order: list[int]) -> None:
    plan = BatchPlan(n, batch, seed=5)
    for step in order:  # asked in any order, also backwards
        assert torch.equal(plan.indices(step), BatchPlan(n, batch, seed=5).indices(step))


def test_epochs_and_seeds_have_different_orders() -> None:
    orders = [BatchPlan(100, 100, seed).indices(step) for seed in (0, 1) for step in (0, 1)]
    assert len({tuple(order.tolist()) for order in orders}) == 4


@pytest.mark.parametrize(("n", "batch"), [(0, 1), (1, 0)])
def test_plan_refuses_nothing_to_do(n: int, batch: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BatchPlan(n, batch, 0)


def _resident(binarize: str, dtype: torch.dtype = torch.float64) -> DeviceResident:
    images = torch.arange(256, dtype=torch.uint8).reshape(256, 1, 1, 1)
    return DeviceResident(Split(x=images), DataConfig(name="mnist", binarize=binarize), CPU, dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_become_fractions(dtype: torch.dtype) -> None:
    resident = _resident("none", dtype)
    assert len(resident) == 256
    assert resident.noise() == {}
    x = resident.batch(torch.tensor([255, 0, 128]), {})
    assert x.dtype == dtype
    assert torch.equal(x.ravel(), torch.tensor([255, 0, 128], dtype=dtype) / 255)


def test_threshold_is_at_one_half() -> None:
    x = _resident("threshold").batch(torch.arange(256), {}).ravel()
    assert torch.equal(x, (torch.arange(256) / 255 >= 0.5).double())


def test_dynamic_binarization_has_the_bytes_as_probabilities() -> None:
    resident = _resident("dynamic", torch.float32)
    (spec,) = resident.noise().values()
    total = torch.zeros(256)
    draws = 2000
    for step in range(draws):
        noise = {"x": draw(spec, 256, seed=0, step=step, stream="train/x", device=CPU, dtype=torch.float32)}
        x = resident.batch(torch.arange(256), noise).ravel()
        total += x
    p = torch.arange(256) / 255
    assert set(x.tolist()) == {0.0, 1.0}
    assert total[0] == 0
    assert total[255] == draws
    deviations = (total / draws - p)[1:255] / (p * (1 - p) / draws)[1:255].sqrt()
    assert deviations.abs().max() < 4.5  # 254 normal values: beyond 4.5 once in 600 seeds
    assert 0.8 < deviations.square().mean() < 1.2


def test_only_bytes_and_reals_are_taken() -> None:
    with pytest.raises(TypeError, match="uint8, float32 or int32"):
        DeviceResident(Split(x=torch.zeros(2, 1, 2, 2).long()), DataConfig(name="mnist"), CPU, torch.float32)


@pytest.mark.parametrize("binarize", ["none", "threshold", "dynamic"])
def test_batches_are_made_where_the_data_live(binarize: str) -> None:
    """On the meta device, which refuses to mix with others: nothing comes back to the host, on an accelerator too."""
    meta = torch.device("meta")
    images = torch.zeros((20, 1, 3, 4), dtype=torch.uint8)
    resident = DeviceResident(Split(x=images), DataConfig(name="mnist", binarize=binarize), meta, torch.float32)  # type: ignore[arg-type]
    noise = {name: torch.rand((7, *spec.shape), device=meta) for name, spec in resident.noise().items()}
    x = resident.batch(BatchPlan(20, 7, seed=0, device=meta).indices(2), noise)  # straddles two epochs
    assert (x.device.type, x.dtype, tuple(x.shape)) == ("meta", torch.float32, (7, 1, 3, 4))
