"""AR-ELBO's noise patterns: where the noise is, how large, and that it is part of the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vae_models import data
from vae_models.config.train import TrainConfig
from vae_models.data import noise
from vae_models.data.config import DataConfig
from vae_models.data.noises import GaussianNoiseConfig
from vae_models.data.records import Dataset
from vae_models.data.residency import DeviceResident
from vae_models.data.spec import LabelSpec

PARTITIONS = ("SU", "SL", "BU", "BL")


def _noisy(pattern: str, variance: float = 0.01, seed: int = 0) -> Dataset:
    config = GaussianNoiseConfig(pattern=pattern, variance=variance, seed=seed)  # type: ignore[arg-type]
    return data.load(DataConfig(name="digits", noise=config))


def _added(dataset: Dataset) -> torch.Tensor:
    clean = data.load(DataConfig(name="digits"))
    return dataset.train.x.double() - clean.train.x.double() / 255


def test_partitions_cover_every_element_once() -> None:
    labels = torch.tensor([0, 4, 5, 9])
    masks = noise.partitions(labels, height=7)
    assert set(masks) == set(PARTITIONS)
    assert torch.equal(sum(mask.int() for mask in masks.values()), torch.ones(4, 1, 7, 1, dtype=torch.int32))
    assert masks["SU"][:, 0, :, 0].int().tolist() == [[1, 1, 1, 0, 0, 0, 0]] * 2 + [[0] * 7] * 2
    assert masks["BL"][:, 0, :, 0].int().tolist() == [[0] * 7] * 2 + [[0, 0, 0, 1, 1, 1, 1]] * 2


@pytest.mark.parametrize("variance", [0.01, 0.1])
@pytest.mark.parametrize("pattern", noise.NOISY)
def test_noise_of_the_variance_is_where_the_pattern_says_and_nowhere_else(pattern: str, variance: float) -> None:
    dataset = _noisy(pattern, variance)
    added = _added(dataset)
    assert dataset.train.labels is not None
    for name, mask in noise.partitions(dataset.train.labels, height=8).items():
        e = added[mask.expand_as(added)]
        if name in noise.NOISY[pattern]:
            # the mean of m squares of normal values deviates by sqrt(2 / m)
            assert abs(float(e.square().mean()) / variance - 1) < 5 * (2 / len(e)) ** 0.5
            assert abs(float(e.mean())) < 5 * (variance / len(e)) ** 0.5
        else:
            assert float(e.abs().max()) < 1e-7  # k/255 in float32


def test_values_leave_the_unit_interval_and_labels_stay() -> None:
    clean, dataset = data.load(DataConfig(name="digits")), _noisy("spatial", 0.1)
    for split, before in ((dataset.train, clean.train), (dataset.val, clean.val), (dataset.test, clean.test)):
        assert split.x.dtype == torch.float32
        assert split.x.shape == before.x.shape
        assert float(split.x.min()) < 0
        assert float(split.x.max()) > 1
        assert torch.equal(split.labels, before.labels)  # type: ignore[arg-type]
    assert dataset.labels == clean.labels == LabelSpec(name="digit")


def test_noise_is_fixed_by_its_seed_and_differs_between_images_and_splits() -> None:
    first, again, other = _noisy("uniform"), _noisy("uniform"), _noisy("uniform", seed=1)
    assert torch.equal(first.train.x, again.train.x)
    clean = data.load(DataConfig(name="digits"))
    added, elsewhere = _added(first).flatten(), _added(other).flatten()
    half = len(added) // 2
    val = (first.val.x.double() - clean.val.x.double() / 255).flatten()
    for one, two in ((added, elsewhere), (added[:half], added[half : 2 * half]), (added[: len(val)], val)):
        correlation = torch.corrcoef(torch.stack([one, two]))[0, 1]
        assert abs(float(correlation)) < 5 / len(one) ** 0.5


def test_only_the_scale_differs_between_variances() -> None:
    np.testing.assert_allclose(
        _added(_noisy("spatial", 0.1)) / 0.1**0.5, _added(_noisy("spatial", 0.01)) / 0.01**0.5, atol=1e-5
    )


def test_batches_of_noisy_data_are_the_images_themselves() -> None:
    config = DataConfig(name="digits", noise=GaussianNoiseConfig(pattern="conditional"))
    dataset = data.load(config)
    resident = DeviceResident(dataset.train, config, torch.device("cpu"), torch.float64)
    assert resident.noise() == {}
    batch = resident.batch(torch.tensor([3, 1]), {})
    assert batch.dtype == torch.float64
    assert torch.equal(batch, dataset.train.x[[3, 1]].double())


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"name": "mnist", "binarize": "dynamic", "noise": {"kind": "gaussian"}}, "mnist with noise are unbounded"),
        ({"name": "mnist", "binarize": "threshold", "noise": {"kind": "gaussian"}}, "set it to none"),
        ({"name": "cmu-motion", "binarize": "threshold"}, "those of cmu-motion are unbounded"),
        ({"name": "fashion-mnist", "noise": {"kind": "gaussian"}}, "fashion-mnist has no digits; .* digits, mnist"),
        ({"name": "mnist", "noise": {"kind": "gaussian", "variance": 0}}, "greater than 0"),
        ({"name": "mnist", "noise": {"kind": "gaussian", "pattern": "diagonal"}}, "'spatial-conditional'"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_reason(settings, complaint) -> None:
    with pytest.raises(ValueError, match=complaint):
        TrainConfig.model_validate({"data": settings, "epochs": 1, "model": {"likelihood": {"kind": "gaussian"}}})


@pytest.mark.parametrize("settings", [{"name": "cmu-motion"}, {"name": "digits", "noise": {"kind": "gaussian"}}])
@pytest.mark.parametrize("kind", ["bernoulli", "categorical"])
def test_real_values_need_a_density_of_the_reals(settings, kind: str) -> None:
    with pytest.raises(ValueError, match="x here is real and unbounded: choose gaussian"):
        TrainConfig.model_validate({"data": settings, "epochs": 1, "model": {"likelihood": {"kind": kind}}})


@pytest.mark.parametrize("name", ["binarized-mnist", "dsprites", "caltech-silhouettes"])
def test_bits_are_no_levels_of_256(name: str) -> None:
    assert DataConfig(name=name).bits  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="x here is binary"):
        TrainConfig.model_validate(
            {"data": {"name": name}, "epochs": 1, "model": {"likelihood": {"kind": "categorical"}}}
        )


def test_real_valued_data_is_not_binarized() -> None:
    dataset = _noisy("uniform")
    with pytest.raises(ValueError, match="binarize='dynamic' is for bytes"):
        DeviceResident(dataset.train, DataConfig(name="digits", binarize="dynamic"), torch.device("cpu"), torch.float32)
