"""Sizes of the networks, and what is refused."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from vae_models.backbones.geometry import BENCHMARK_DECODERS
from vae_models.backbones.specs import (
    BackboneConfig,
    ConvConfig,
    InfoGanConfig,
    MLPConfig,
    ResNetConfig,
    SigmaVaeConfig,
    VhpConvConfig,
    VhpGatedConfig,
)
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.strict import DataShape
from vae_models.topologies.vae.specs import ModelConfig


def parameters(config: ModelConfig, shape: DataShape) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in config.build(shape).parameters())


@pytest.mark.parametrize(
    ("shape", "latent", "count"),
    [((1, 28, 28), 32, 17_526_977), ((3, 32, 32), 256, 40_462_723), ((3, 64, 64), 64, 34_594_563)],
)
def test_the_benchmark_cnn_has_the_published_parameter_count(shape: DataShape, latent: int, count: int) -> None:
    assert parameters(ModelConfig(latent=latent, backbone=ConvConfig()), shape) == count


def test_the_mlp_has_the_parameter_count_of_its_formula() -> None:
    encoder = 784 * 400 + 400 + 400 * 300 + 300
    heads = 2 * (300 * 20 + 20)
    decoder = 20 * 300 + 300 + 300 * 400 + 400 + 400 * 784 + 784
    config = ModelConfig(latent=20, backbone=MLPConfig(hidden=(400, 300)))
    assert parameters(config, (1, 28, 28)) == encoder + heads + decoder


@pytest.mark.parametrize("side", BENCHMARK_DECODERS)
def test_the_decoder_ends_at_the_image_size(side: int) -> None:
    """Torch's own convolutions against the formula in `Stage`'s docstring."""
    geometry = BENCHMARK_DECODERS[side]
    size = geometry.start
    for stage in geometry.stages:
        height, width = (
            (n - 1) * stage.stride - 2 * stage.padding + geometry.kernel + rest
            for n, rest in zip(size, stage.output_padding, strict=True)
        )
        size = (height, width)
    assert size == (side, side)
    model = ModelConfig(latent=2, backbone=ConvConfig(channels=(1,) * 4)).build((5, side, side))
    assert model.decode(torch.zeros(1, 2)).shape == (1, 5, side, side)


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((1, 8, 8), (4, 4, 4, 4), "8 x 8 pixels take at most 3, not 4: give fewer channels, or use an mlp backbone"),
        ((1, 28, 20), (4,) * 5, "28 x 20 pixels take at most 4, not 5"),
        ((1, 28, 28), (4,) * 5, "28 x 28 pixels take at most 4, not 5"),
        ((3, 1, 64), (4,), "1 x 64 pixels take none, not 1"),
    ],
)
def test_the_cnn_refuses_images_and_channels_it_cannot_take(
    shape: DataShape, channels: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(backbone=ConvConfig(channels=channels)).build(shape)


def test_a_cnn_on_data_of_the_wrong_size_is_refused_when_the_config_is_read() -> None:
    with pytest.raises(ValidationError, match="8 x 8 pixels take at most 3, not 4: give fewer"):
        TrainConfig(data=DataConfig(name="digits"), model=ModelConfig(backbone=ConvConfig()), steps=1)


@pytest.mark.parametrize("kind", [MLPConfig, ConvConfig])
def test_widths_are_positive(kind: type[MLPConfig] | type[ConvConfig]) -> None:
    field = "hidden" if kind is MLPConfig else "channels"
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        kind.model_validate({field: [4, 0]})


@pytest.mark.parametrize(
    ("backbone", "shape", "latent", "count"),
    [
        (ResNetConfig(), (1, 28, 28), 32, 1_881_217),
        (ResNetConfig(), (3, 32, 32), 256, 7_896_963),
        (ResNetConfig(), (3, 64, 64), 64, 2_770_819),
        (InfoGanConfig(norm=False, kernel=4), (1, 28, 28), 8, 13_142_417),
        (InfoGanConfig(), (1, 28, 28), 16, 13_331_809),
        (InfoGanConfig(), (3, 64, 64), 64, 40_789_891),
        (InfoGanConfig(), (3, 128, 128), 256, 135_358_723),
        (VhpConvConfig(), (1, 64, 64), 32, 1_652_705),
        (VhpGatedConfig(), (1, 28, 28), 32, 498_541),
        (SigmaVaeConfig(), (3, 28, 28), 20, 992_427),
        (SigmaVaeConfig(channels=128), (3, 32, 32), 20, 11_712_555),
    ],
)
def test_published_nets_have_their_counts_and_sizes(
    backbone: BackboneConfig, shape: DataShape, latent: int, count: int
) -> None:
    """The ResNet's are MR-VAE's table 1; the others are counted from the papers' layers. Built without memory."""
    assert parameters(ModelConfig(latent=latent, backbone=backbone), shape) == count
    with torch.device("meta"):
        for outputs, scale in ((1, True), (2, False)):
            net = backbone.build(shape, latent, outputs, scale=scale)
            mean, raw = net.encode(torch.zeros(2, *shape))
            assert mean.shape == (2, latent)
            assert (raw is None) == (not scale)
            assert net.decode(mean).shape == (2, outputs * shape[0], *shape[1:])


@pytest.mark.parametrize(
    ("backbone", "shape", "message"),
    [
        (ResNetConfig(), (1, 3, 16), "resnet backbone takes images of 4 x 4 pixels or more, not 3 x 16"),
        (InfoGanConfig(), (3, 1, 32), "infogan backbone takes images of 2 x 2 pixels or more, not 1 x 32"),
        (InfoGanConfig(kernel=4), (3, 28, 3), "infogan backbone takes images of 4 x 4 pixels or more, not 28 x 3"),
        (SigmaVaeConfig(), (1, 3, 8), "sigma-vae backbone takes images of 4 x 4 pixels or more, not 3 x 8"),
    ],
)
def test_published_nets_refuse_what_is_too_small(backbone: BackboneConfig, shape: DataShape, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backbone.check(shape)
    with pytest.raises(ValueError, match=message):
        backbone.build(shape, 2, 1)
