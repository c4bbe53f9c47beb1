"""Sizes of the networks, and what is refused."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from vae_models.config import ConvConfig, DataConfig, DataShape, MLPConfig, ModelConfig, TrainConfig
from vae_models.nn.geometry import BENCHMARK_DECODERS


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
        size = (size - 1) * stage.stride - 2 * stage.padding + geometry.kernel + stage.output_padding
    assert size == side
    model = ModelConfig(latent=2, backbone=ConvConfig(channels=(1,) * 4)).build((5, side, side))
    assert model.decode(torch.zeros(1, 2)).shape == (1, 5, side, side)


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((1, 8, 8), (4, 4, 4), "28 x 28, 32 x 32, 64 x 64 pixels, not 8 x 8: use an mlp backbone"),
        ((1, 28, 20), (4, 4, 4), "not 28 x 20"),
        ((1, 28, 28), (4, 4), "needs 3 to 4 channels"),
        ((1, 28, 28), (4,) * 5, "needs 3 to 4 channels .* not 5"),
        ((3, 64, 64), (4, 4, 4), "needs 4 to 6 channels"),
    ],
)
def test_the_cnn_refuses_images_and_channels_it_cannot_take(
    shape: DataShape, channels: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(backbone=ConvConfig(channels=channels)).build(shape)


def test_a_cnn_on_data_of_the_wrong_size_is_refused_when_the_config_is_read() -> None:
    with pytest.raises(ValidationError, match="not 8 x 8: use an mlp backbone"):
        TrainConfig(data=DataConfig(name="digits"), model=ModelConfig(backbone=ConvConfig()), steps=1)


@pytest.mark.parametrize("kind", [MLPConfig, ConvConfig])
def test_widths_are_positive(kind: type[MLPConfig] | type[ConvConfig]) -> None:
    field = "hidden" if kind is MLPConfig else "channels"
    with pytest.raises(ValidationError, match="greater than 0"):
        kind.model_validate({field: [4, 0]})
