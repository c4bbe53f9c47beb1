"""The FID's Inception against pytorch-fid's own, on the same random weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests import pytorch_fid_package, subjects
from vae_models.evaluation.distances.specs import FidEvaluation
from vae_models.evaluation.drawing import drawn
from vae_models.evaluation.features.extractor import as_levels
from vae_models.evaluation.features.inception import Inception, InceptionNetwork
from vae_models.evaluation.features.published import FILE
from vae_models.samplers.specs import PriorSamplerConfig

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def state() -> Mapping[str, Tensor]:
    """As the published file has it, with the classifier, and without the counters that newer networks have."""
    network = InceptionNetwork()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.8, 1.2)
                nn.init.normal_(module.bias, 0, 0.1)
    named = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    return named | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}


@pytest.fixture(scope="module")
def ours(state: Mapping[str, Tensor]) -> Inception:
    return Inception(state, sha256="0" * 64, device=CPU)


def test_features_are_the_packages(state: Mapping[str, Tensor], ours: Inception) -> None:
    theirs = pytorch_fid_package.network(state)
    images = torch.rand(3, 3, 40, 28, generator=torch.Generator().manual_seed(0))
    images[2] = images[2].mean(0)  # grey
    with torch.no_grad():
        (expected,) = theirs(images)
        found, grey = ours(images), ours(images[2:, :1])
    assert found.shape == (3, 2048)
    assert float(found.std(0).mean()) > 0.01 * float(found.abs().mean())  # the images do differ
    torch.testing.assert_close(found, expected[:, :, 0, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grey[0], found[2], rtol=1e-5, atol=1e-5)


def test_the_network_has_the_published_layers() -> None:
    layers = [module for module in InceptionNetwork().modules() if isinstance(module, nn.Conv2d)]
    assert len(layers) == 94


def test_the_state_has_the_published_files_size(state: Mapping[str, Tensor]) -> None:
    numbers = 4 * sum(value.numel() for value in state.values())
    assert numbers < FILE.forms[0].bytes < numbers + 300 * len(state)  # and a name and a place of each


def test_other_weights_are_refused(state: Mapping[str, Tensor]) -> None:
    lacking = {name: value for name, value in state.items() if name != "Mixed_7c.branch_pool.conv.weight"}
    with pytest.raises(ValueError, match=r"not the weights of the FID's Inception: .*Mixed_7c.branch_pool.conv.weight"):
        Inception(lacking, sha256="0" * 64, device=CPU)
    misshapen = {**state, "Conv2d_1a_3x3.conv.weight": torch.zeros(32, 1, 3, 3)}
    with pytest.raises(ValueError, match=r"Conv2d_1a_3x3.conv.weight"):
        Inception(misshapen, sha256="0" * 64, device=CPU)


def by_singular_values(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Of few rows: the general root of a matrix of 2,048 would take a minute."""
    a, b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (one, other))
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(np.square(one.mean(0) - other.mean(0)).sum() + np.square(a).sum() + np.square(b).sum() - 2 * root)


def test_an_evaluation_reads_weights_at_a_path(state: Mapping[str, Tensor], ours: Inception, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(state, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    features = {"kind": "inception", "weights": str(path), "sha256": sha256}
    subject = subjects.digits(dtype="float32", limit=6)
    spec = FidEvaluation.model_validate({"features": features, "count": 6, "reconstructions": False})
    with mock.patch.dict(os.environ, VAESVC_CACHE_DIR=str(tmp_path)):
        found = {value.name: value for value in spec.build()(subject).values}
    value = found[f"fid_inception_{sha256[:8]}/prior"]
    samples = drawn(subject, PriorSamplerConfig(), 6, stream="distances")
    clouds = (ours(as_levels(images)).double().numpy() for images in (samples, subject.dataset.test.x[:6] / 255))
    assert value.value == pytest.approx(by_singular_values(*clouds), rel=1e-4)
    assert "6 images of 2,048 features: a covariance is singular" in value.note
