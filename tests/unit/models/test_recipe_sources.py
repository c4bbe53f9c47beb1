"""What recipes cite: each number against the paper, or the code that it points to, and "ours" where neither has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from vae_models.config import GaussianConfig, SigmaVaeConfig, TrainConfig
from vae_models.recipes import catalogue


def config(name: str) -> TrainConfig:
    return catalogue()[name].build()


def layers(part: nn.Module) -> Iterator[tuple[object, ...]]:
    """Each layer in order, convolutions with kernel, stride and padding."""
    for module in part.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            yield type(module), module.kernel_size[0], module.stride[0], module.padding[0]  # type: ignore[misc]
        elif not list(module.children()):
            yield (type(module),)


# --- sigma-VAE --------------------------------------------------------------------------------------------------------


def test_fault_17_sigma_vae_convolutions_are_the_codes() -> None:
    """Paddings 1, 1, 2; decoder kernels 6, 6, 5; nothing between the decoder's linear layer and its convolutions."""
    with torch.device("meta"):
        net = SigmaVaeConfig().build((3, 28, 28), 20, 1)
    down, up, relu = nn.Conv2d, nn.ConvTranspose2d, (nn.ReLU,)
    encoder = [(down, 3, 1, 1), relu, (down, 4, 2, 1), relu, (down, 5, 2, 2), relu, (nn.Flatten,)]
    assert list(layers(net.encoder)) == encoder
    decoder = [(up, 6, 2, 2), relu, (up, 6, 2, 2), relu, (up, 5, 1, 2)]
    assert list(layers(net.decoder)) == [(nn.Linear,), (nn.Unflatten,), *decoder]
    assert net.heads.mean.in_features == 128 * 7 * 7


GAUSSIANS = ("gaussian-vae", "sigma-vae-shared", "sigma-vae-optimal", "sigma-vae-per-image", "sigma-vae-per-pixel")


@pytest.mark.parametrize("data", ["svhn", "celeba", "cifar10"])
@pytest.mark.parametrize("system", GAUSSIANS)
def test_fault_17_sigma_vae_means_are_a_sigmoids(data: str, system: str) -> None:
    trained = config(f"{data}/{system}")
    assert trained.model.likelihood.link == "sigmoid"  # type: ignore[union-attr]
    assert (trained.model.latent, trained.batch_size, trained.epochs, trained.optimizer.lr) == (20, 128, 10, 1e-3)
    channels = 128 if data == "cifar10" else 32
    assert trained.model.backbone == SigmaVaeConfig(channels=channels)


# --- MR-VAE -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["cifar10", "svhn", "celeba"])
@pytest.mark.parametrize("net", ["cnn", "resnet"])
@pytest.mark.parametrize("system", ["beta-vae-{}", "beta-vae-{}-warmup", "mr-vae-{}"])
def test_fault_17_the_benchmark_nets_end_in_a_sigmoid(data: str, net: str, system: str) -> None:
    assert config(f"{data}/{system.format(net)}").model.likelihood == GaussianConfig(link="sigmoid")


# --- who has it -------------------------------------------------------------------------------------------------------

OURS = {
    "MR-VAE, appendix C.2": ("mnist/beta-vae-", "mnist/mr-vae-", "fashion-mnist/beta-vae-"),
    "sigma-VAE, table 4, appendix B": ("svhn/discretized-", "celeba/discretized-"),
}


def test_fault_17_what_no_paper_has_is_ours_after_it() -> None:
    for after, prefixes in OURS.items():
        for prefix in prefixes:
            names = [name for name in catalogue() if name.startswith(prefix)]
            assert names, prefix
            for name in names:
                assert (catalogue()[name].paper, catalogue()[name].section) == ("ours", f"after {after}"), name
