"""NVAE: counts, shapes, normals, singular values, and what an objective reads of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from vae_models.likelihoods.specs import LogisticMixtureConfig
from vae_models.nn.norm import BatchNorm2d
from vae_models.nn.weight_norm import Spectrum, WeightNormConv2d
from vae_models.objectives.ladder import LadderElbo
from vae_models.random import draw_rows
from vae_models.recipes import catalogue
from vae_models.samplers.laws import tempered
from vae_models.samplers.readjusted import ReadjustedSampler
from vae_models.topologies.ladder.model import Ladder
from vae_models.topologies.ladder.multi_rate import MultiRateLadder
from vae_models.topologies.ladder.normal import Normal
from vae_models.topologies.ladder.plan import groups_by_scale
from vae_models.topologies.ladder.specs import NvaeConfig
from vae_models.topologies.vae.specs import GatingConfig

SMALL = NvaeConfig(size=(9, 6), channels=4, latent=2, groups=2, blocks=1, block_cells=1, decoder_cells=1)
SHAPE = (1, 9, 6)
CONFIGS = {
    "depthwise": SMALL,
    "swish": SMALL.model_copy(update={"body": "swish"}),
    "no-squeeze": SMALL.model_copy(update={"squeeze": False}),
    "no-blocks": SMALL.model_copy(update={"blocks": 0, "scales": 1}),
    "as-many-groups": SMALL.model_copy(update={"halved": False, "scales": 3}),
    "mixture": SMALL.model_copy(update={"likelihood": LogisticMixtureConfig(components=2)}),
    "multi-rate": SMALL.model_copy(update={"gating": GatingConfig()}),
}


def built(config: NvaeConfig, shape: tuple[int, ...] = SHAPE) -> Ladder | MultiRateLadder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return config.build(shape).double()


def inputs(model: Ladder | MultiRateLadder, rows: int = 3, samples: int = 1) -> tuple[Tensor, Mapping[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(rows, *SHAPE, generator=generator) > 0.5).double()
    noise = {
        name: torch.randn(rows, *spec.shape, generator=generator, dtype=torch.float64)
        for name, spec in model.noise(samples).items()
    }
    return x, noise


def test_table_1_to_the_last_number() -> None:
    """Of MR-VAE's NVAE row the first number has an output of 100 channels and an input of 3, the second of 1."""
    base, gated = (catalogue()[f"binarized-mnist/{name}"].build().model for name in ("nvae-16", "mr-nvae-16"))
    weights = [sum(each.numel() for each in config.build((1, 28, 28)).parameters()) for config in (base, gated)]
    colours = 2 * 9 * 16  # of the stem's two more inputs
    outputs = 99 * (9 * 16 + 2)
    assert (weights[0] + colours + outputs, weights[1]) == (8_867_988, 8_950_118)
    assert [config.weights((1, 28, 28)) for config in (base, gated)] == weights


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_what_the_specification_says_is_what_is_built(config: NvaeConfig) -> None:
    model = built(config)
    assert config.weights(SHAPE) == sum(each.numel() for each in model.parameters())
    assert {name: layer.shape for name, layer in model.latents().items()} == config.latents()
    assert list(config.latents())[-1] == "z1"  # the top is furthest from x


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_pass_and_samples_have_the_shapes_of_the_data(config: NvaeConfig) -> None:
    model = built(config).eval()
    x, noise = inputs(model)
    trace = model(x, noise)
    assert trace.mean.shape == x.shape
    assert trace.distortion.shape == trace.rate.shape == (3,)
    assert [latent.name for latent in trace.latents] == list(config.latents())
    assert model.sample_mean(noise).shape == x.shape
    uniform = {**noise, "sample/x": torch.rand(3, *SHAPE, dtype=torch.float64)}
    assert model.sample(uniform).shape == x.shape


def test_several_samples_of_a_datum_are_passes_of_their_own() -> None:
    model = built(SMALL).eval()
    x, noise = inputs(model, samples=2)
    together = model(x, noise)
    for sample in range(2):
        alone = model(x, {name: value[:, sample] for name, value in noise.items()})
        torch.testing.assert_close(together.rate[sample::2], alone.rate)
        torch.testing.assert_close(together.distortion[sample::2], alone.distortion)


def test_the_rate_is_the_mean_of_its_estimate() -> None:
    """KL(q || p) of every group given the ones above: the mean over z of log q - log p, within 4 standard errors."""
    model = built(SMALL).eval()
    x, noise = inputs(model, rows=1, samples=2000)
    with torch.no_grad():
        trace = model(x, noise)
    apart = sum(latent.log_q - latent.log_p - latent.rate for latent in trace.latents)
    assert isinstance(apart, Tensor)
    assert abs(float(apart.mean())) < 4 * float(apart.std()) / 2000**0.5


def test_normals_agree_with_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_std, other_mean, other_log_std, z = torch.randn(5, 4, 2, 3, 3, generator=generator, dtype=torch.float64)
    ours, theirs = Normal.clamped(mean, log_std), Normal.clamped(other_mean, other_log_std)
    same = [torch.distributions.Normal(each.mean, each.std) for each in (ours, theirs)]
    torch.testing.assert_close(ours.kl(theirs), torch.distributions.kl_divergence(*same).flatten(1).sum(1))
    torch.testing.assert_close(ours.log_prob(z), same[0].log_prob(z).flatten(1).sum(1))
    extreme = Normal.clamped(torch.full((1, 1, 1, 1), 1e6), torch.full((1, 1, 1, 1), -1e6))
    assert float(extreme.mean) <= 5
    assert float(extreme.std) >= 0.01


def test_singular_values_are_lapacks() -> None:
    """After some steps; of all convolutions, those of one shape together, and with a gradient by the weights."""
    torch.manual_seed(0)
    layers = [WeightNormConv2d(3, 4, 3), WeightNormConv2d(3, 4, 3), nn.Conv2d(4, 2, 1)]
    spectrum = Spectrum(layers).double()
    layers = [layer.double() for layer in layers]
    for _ in range(300):
        total = spectrum()
    matrices = [
        layer.normalized if isinstance(layer, WeightNormConv2d) else layer.weight for layer in layers
    ]  # fmt: skip
    exact = sum(torch.linalg.svdvals(matrix.flatten(1))[0] for matrix in matrices)
    torch.testing.assert_close(total, exact, rtol=1e-9, atol=0)
    total.backward()
    assert all(layer.weight.grad is not None for layer in layers)
    before = {name: value.clone() for name, value in spectrum.state_dict().items()}
    spectrum.eval()()
    assert all(torch.equal(before[name], value) for name, value in spectrum.state_dict().items())


def test_a_weight_norm_starts_as_the_convolution_that_was_drawn() -> None:
    layer = WeightNormConv2d(3, 5, 3, stride=2, padding=1).double()
    x = torch.randn(2, 3, 7, 7, dtype=torch.float64)
    plain = nn.functional.conv2d(x, layer.weight, layer.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(x), plain, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        layer.weight.mul_(3)
        layer.log_norm.zero_()
    torch.testing.assert_close(layer.normalized.flatten(1).norm(dim=1), torch.ones(5, dtype=torch.float64))


def test_groups_are_halved_scale_by_scale() -> None:
    assert groups_by_scale(2, 10, halved=True, least=1) == (10, 5)
    assert groups_by_scale(3, 20, halved=True, least=6) == (20, 10, 6)
    assert groups_by_scale(3, 2, halved=False, least=1) == (2, 2, 2)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_the_objective_balances_below_1_only(beta: float) -> None:
    """By hand: gamma_l in proportion to (mean rate + 0.01) / alpha_l, of mean 1."""
    model = built(SMALL)
    trace = model(*inputs(model))
    rates = torch.stack([latent.rate for latent in trace.latents], 1)
    shares = (rates.mean(0) + 0.01) / model.balance()
    gamma = shares / shares.mean() if beta < 1 else torch.ones_like(shares)
    expected = (trace.distortion + beta * (rates * gamma).sum(1)).mean()
    objective = LadderElbo(weight=0.0, balanced=True)
    loss = objective(trace, torch.tensor(beta, dtype=torch.float64), model=model, noise={})
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.terms["elbo"], -(trace.distortion + trace.rate).mean())


def test_the_penalty_is_of_singular_values_and_batch_norms() -> None:
    model = built(SMALL).eval()  # so that the singular vectors stay
    trace = model(*inputs(model))
    one = torch.tensor(1.0, dtype=torch.float64)
    plain, penalized = (
        LadderElbo(weight=weight, balanced=False)(trace, one, model=model, noise={}).total for weight in (0.0, 0.5)
    )
    norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm2d | nn.modules.batchnorm._BatchNorm)]
    expected = 0.5 * (model.spectral_norm() + sum(norm.weight.abs().max() for norm in norms))
    torch.testing.assert_close(penalized - plain, expected)


def test_a_group_on_more_pixels_may_say_more() -> None:
    model = built(NvaeConfig(size=(8, 8), channels=4, latent=2, scales=2, groups=4, blocks=0))
    assert model.balance().tolist() == [2, 2, 2, 2, 1, 1]  # 4^1 / 4 and 4^0 / 2, over the smaller


def test_at_temperature_0_all_samples_are_one() -> None:
    model = built(SMALL).eval()
    _, noise = inputs(model)
    specs = model.prior_noise()
    means = model.sample_mean(tempered(noise, specs, 0.0))
    torch.testing.assert_close(means, means[:1].expand_as(means))
    assert not torch.allclose(model.sample_mean(noise), means)


@pytest.mark.parametrize("name", ["swish", "depthwise", "multi-rate"])
def test_statistics_at_a_temperature_are_torchs_cumulative_ones(name: str) -> None:
    """As a copy of the model has them that is put into training, with torch's cumulative average, for those batches."""
    model = built(CONFIGS[name]).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    beta = torch.tensor(0.3, dtype=torch.float64) if name == "multi-rate" else None
    sampler = ReadjustedSampler(temperature=0.6, batches=4, size=5)
    specs, (_, noise) = model.prior_noise(), inputs(model)
    means = sampler.means(model, noise, beta)
    other = copy.deepcopy(model)
    ladder = other.model if isinstance(other, MultiRateLadder) else other
    for norm in (module for module in ladder.decoder.modules() if isinstance(module, BatchNorm2d)):
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for first in range(0, 20, 5):
        drawn = draw_rows(
            specs, 5, first=first, seed=0, stream="readjusted", device=torch.device("cpu"), dtype=torch.float64
        )
        other.sample_mean(tempered(drawn, specs, 0.6), beta)
    other.eval()
    torch.testing.assert_close(means, other.sample_mean(tempered(noise, specs, 0.6), beta))
    assert not torch.allclose(means, model.sample_mean(tempered(noise, specs, 0.6), beta))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    uniform = {**noise, "sample/x": torch.rand(3, *SHAPE, dtype=torch.float64)}
    assert sampler.draws(model, uniform, beta).shape == (3, *SHAPE)
    torch.testing.assert_close(sampler.means(model, {key: each[:1] for key, each in noise.items()}, beta), means[:1])


def test_statistics_are_of_one_beta() -> None:
    model = built(CONFIGS["multi-rate"]).eval()
    sampler = ReadjustedSampler(temperature=0.6, batches=1, size=2)
    with pytest.raises(ValueError, match="each sample has its own: give one"):
        sampler.means(model, inputs(model)[1], torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model.channels": 6}, "model.channels: 6 is no multiple of 4"),
        ({"model.gating": {"place": "batch-norm"}}, "one gate after each layer"),
        ({"model.spectrum": False}, "needs a model with spectrum, which nvae here does not offer: choose elbo"),
        ({"data.name": "cmu-motion"}, "takes images"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: Mapping[str, object], complaint: str) -> None:
    from tuning.space import with_values

    with pytest.raises(ValueError, match=complaint):
        with_values(catalogue()["digits/nvae-tiny"].build(), dict(changes))


def test_its_size_is_the_images() -> None:
    config = catalogue()["digits/nvae-tiny"].build()
    assert isinstance(config.model, NvaeConfig)
    assert config.model.size == config.data.facts.shape[1:] == (8, 8)
    assert list(SMALL.data_refusals((1, 8, 8), 4)) == [
        "model.size is [9, 6], and the images are 8 x 8: set model.size to it"
    ]


def test_another_topology_is_refused_the_objective_of_ladders() -> None:
    from tuning.space import with_values

    with pytest.raises(ValueError, match="objective ladder-elbo needs a model with balance, spectrum, which vae here"):
        with_values(catalogue()["digits/beta-vae-mlp"].build(), {"objective.kind": "ladder-elbo"})
