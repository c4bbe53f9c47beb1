"""Multi-rate gating: which layers, how many parameters, what it computes, and that it leaves nothing behind."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from tests.catalogue import GATINGS, LATENT, draw
from vae_models.backbones.specs import ConvConfig, MLPConfig, ResNetConfig
from vae_models.nn.gates import GatedLayer, HyperBatchNorm, Signal, VarianceGate, sqrt_gate
from vae_models.nn.norm import BatchNorm2d
from vae_models.recipes import catalogue
from vae_models.strict import DataShape
from vae_models.topologies.vae.model import VAE
from vae_models.topologies.vae.multi_rate import MultiRate
from vae_models.topologies.vae.specs import GatingConfig, ModelConfig

SHAPES: dict[str, tuple[DataShape, int]] = {
    "MNIST": ((1, 28, 28), 32),
    "CIFAR-10": ((3, 32, 32), 256),
    "CelebA64": ((3, 64, 64), 64),
}


def count(config: ModelConfig, shape: DataShape) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in config.build(shape).parameters())


@pytest.mark.parametrize(
    ("backbone", "data", "base", "gates"),
    [
        (ConvConfig(), "MNIST", 17_526_977, 5_376),
        (ConvConfig(), "CIFAR-10", 40_462_723, 5_376),
        (ConvConfig(), "CelebA64", 34_594_563, 5_632),
        (ResNetConfig(), "MNIST", 1_881_217, 3_072),
        (ResNetConfig(), "CIFAR-10", 7_896_963, 2_816),
        (ResNetConfig(), "CelebA64", 2_770_819, 3_584),
    ],
)
def test_table_1(backbone: ConvConfig | ResNetConfig, data: str, base: int, gates: int) -> None:
    """Base, and with Listing 1's gates: one Linear(1, C) for each hidden convolution of C channels."""
    shape, latent = SHAPES[data]
    assert count(ModelConfig(latent=latent, backbone=backbone), shape) == base
    assert count(ModelConfig(latent=latent, backbone=backbone, gating=GatingConfig()), shape) == base + gates


@pytest.mark.parametrize(
    ("data", "norms", "channels"), [("MNIST", 6, 2688), ("CIFAR-10", 6, 2688), ("CelebA64", 7, 2816)]
)
def test_the_batch_norm_hypernetwork_counts(data: str, norms: int, channels: int) -> None:
    """Two networks 1 -> 64 -> C in place of C scales and C shifts: 256 + 130 C - 2 C for each batch norm."""
    shape, latent = SHAPES[data]
    base = count(ModelConfig(latent=latent, backbone=ConvConfig()), shape)
    gated = count(ModelConfig(latent=latent, backbone=ConvConfig(), gating=GatingConfig(place="batch-norm")), shape)
    assert gated - base == 256 * norms + 128 * channels


@pytest.mark.parametrize(
    ("name", "base", "increase", "printed"),
    [
        ("binarized-mnist", 17_526_977, 358_400, ("17.88", "2.04")),
        ("omniglot", 17_526_977, 358_400, ("17.88", "2.04")),
        ("cifar10", 40_462_723, 356_352, ("40.81", "0.88")),
        ("svhn", 40_462_723, 356_352, ("40.81", "0.88")),
        ("celeba", 34_594_563, 374_528, ("34.96", "1.08")),
    ],
)
def test_fault_16_the_totals_of_table_1(name: str, base: int, increase: int, printed: tuple[str, str]) -> None:
    """MR-VAE's column and the increase in percent, as printed (millions, digits cut off), of the recipes."""
    recipe = catalogue()[f"{name}/mr-vae-cnn-batch-norm"].build()
    config, shape = recipe.model, recipe.data.facts.shape
    total = count(config, shape)
    assert count(config.model_copy(update={"gating": None}), shape) == base
    assert total == base + increase
    assert f"{total // 10**4 / 100:.2f}" == printed[0]
    assert f"{100 * increase / base:.2f}" == printed[1]


def test_fault_16_table_1_is_gates_networks_added_to_norms_and_one_gate_twice() -> None:
    """2 C of gates and 256 + 130 C of networks for each norm, and C = 1024 once more: 12,800 more than without."""
    channels = (128, 256, 512, 1024, 512, 256)
    assert sum(2 * c + 256 + 130 * c for c in channels) + 2 * 1024 == 358_400
    shape, latent = SHAPES["MNIST"]
    without = count(ModelConfig(latent=latent, backbone=ConvConfig(), gating=GatingConfig(place="batch-norm")), shape)
    published = catalogue()["binarized-mnist/mr-vae-cnn-batch-norm"].build().model
    assert count(published, shape) - without == 12_800
    with torch.device("meta"):
        model = published.build(shape)
    encoder = model.get_submodule("model.backbone.encoder")
    kinds = [[type(layer).__name__ for layer in encoder.get_submodule(str(place))] for place in range(4)]  # type: ignore[attr-defined]
    block = ["GatedLayer", "HyperBatchNorm", "ReLU"]
    assert kinds == [block, block, block, [*block, "Gate"]]


def test_a_batch_norm_with_its_own_scale_and_shift_starts_as_itself_plus_the_networks() -> None:
    torch.manual_seed(0)
    signal = Signal()
    norm = HyperBatchNorm(BatchNorm2d(3), signal, hidden=4, own=True)
    x, u = torch.randn(5, 3, 2, 2), torch.tensor(0.7)
    with signal.of(u):
        found = norm(x)
    scale, shift = (1 + norm.scale(u.view(1, 1)), norm.shift(u.view(1, 1)))
    expected = torch.nn.functional.batch_norm(x, None, None, training=True)
    torch.testing.assert_close(found, expected * scale[:, :, None, None] + shift[:, :, None, None])


def test_fault_15_a_gate_on_the_variance_by_hand() -> None:
    """C = exp(raw) sigmoid(t log beta + p) with t = 1 at theorem 1's start (eqs 30-32)."""
    torch.manual_seed(0)
    config = GatingConfig(heads=True, start="theorem-1")
    model = ModelConfig(latent=LATENT, backbone=MLPConfig(hidden=()), gating=config).build((1, 2, 3)).double()
    assert isinstance(model, MultiRate)
    head = model.get_submodule("model.backbone.heads.raw")
    assert isinstance(head, VarianceGate)
    features = torch.randn(4, 6, dtype=torch.float64)
    kinks = torch.tensor([math.log(0.01) + math.log(1000) * (j + 0.5) / LATENT for j in range(LATENT)])
    for beta in (0.02, 1.0, 8.0):
        with model._signal.of(model._standardized(torch.tensor(beta), features)):
            gate = (head(features) - head.head(features)).exp()
        torch.testing.assert_close(
            gate, torch.sigmoid(math.log(beta) - kinks).double().expand(4, -1), rtol=1e-5, atol=0
        )


def build(name: str) -> MultiRate:
    config, backbone, shape = GATINGS[name]
    torch.manual_seed(0)
    model = ModelConfig(latent=LATENT, backbone=backbone, gating=config).build(shape)
    assert isinstance(model, MultiRate)
    return model.double()


def inputs(name: str, model: MultiRate, *, samples: int = 1) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, *GATINGS[name][2], generator=generator, dtype=torch.float64)
    return x, draw(model.noise(samples), 3, generator)


@pytest.mark.parametrize("name", GATINGS)
def test_one_beta_per_datum_is_each_datum_at_its_beta(name: str) -> None:
    model = build(name).eval()
    x, noise = inputs(name, model, samples=2)
    beta = torch.tensor([0.02, 1.0, 7.0], dtype=torch.float64)
    trace = model(x, noise, beta)
    for i in range(3):
        alone = model(x[i : i + 1], {key: value[i : i + 1] for key, value in noise.items()}, beta[i])
        torch.testing.assert_close(trace.distortion[2 * i : 2 * i + 2], alone.distortion, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(trace.rate[2 * i : 2 * i + 2], alone.rate, rtol=1e-10, atol=1e-10)
    z = trace.latents[0].sample[::2]
    torch.testing.assert_close(model.decode(z, beta), trace.mean[::2], rtol=1e-10, atol=1e-10)
    assert model.sample_mean(draw(model.prior_noise(), 3, torch.Generator().manual_seed(0)), beta).shape == x.shape


@pytest.mark.parametrize("name", GATINGS)
def test_without_beta_it_is_one_and_beta_matters(name: str) -> None:
    model = build(name).eval()
    x, noise = inputs(name, model)
    one = torch.tensor(1.0, dtype=torch.float64)
    assert torch.equal(model(x, noise).distortion, model(x, noise, one).distortion)
    here, there = model(x, noise), model(x, noise, 3 * one)
    assert not torch.equal(here.rate + here.distortion, there.rate + there.distortion)


@pytest.mark.parametrize("name", GATINGS)
def test_every_gate_gets_a_gradient_and_nothing_is_kept(name: str) -> None:
    model = build(name)
    x, noise = inputs(name, model)
    trace = model(x, noise, torch.tensor([0.05, 0.5, 5.0], dtype=torch.float64))
    (trace.distortion + trace.rate).sum().backward()
    gates = [module for module in model.modules() if isinstance(module, GatedLayer | HyperBatchNorm)]
    assert gates
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
    with pytest.raises(RuntimeError, match="outside its MultiRate model"):
        model.model(x, noise)


def test_gates_of_one_leave_the_model_as_it_was() -> None:
    """FiLM with networks of zeros is the identity."""
    torch.manual_seed(3)
    plain = ModelConfig(latent=LATENT, backbone=MLPConfig(hidden=(5, 4))).build((1, 2, 3)).double()
    torch.manual_seed(3)
    gated = (
        ModelConfig(
            latent=LATENT, backbone=MLPConfig(hidden=(5, 4)), gating=GatingConfig(encoder="film", decoder="film")
        )
        .build((1, 2, 3))
        .double()
    )
    assert isinstance(plain, VAE)
    for module in gated.modules():
        if isinstance(module, GatedLayer):
            torch.nn.init.zeros_(module.gate.network[-1].weight)
            torch.nn.init.zeros_(module.gate.network[-1].bias)
    x = torch.rand(4, 1, 2, 3, dtype=torch.float64)
    noise = draw(plain.noise(), 4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(gated(x, noise).distortion, plain(x, noise).distortion, rtol=1e-12, atol=1e-12)


def test_a_gate_by_hand() -> None:
    """sigmoid(w u + b) times the pre-activation, u = sqrt(3) (log beta - m) / h with m and h of [0.01, 10]."""
    model = build("affine")
    layer = next(module for module in model.modules() if isinstance(module, GatedLayer))
    x = torch.rand(1, layer.layer.in_features, dtype=torch.float64)  # type: ignore[union-attr, arg-type]
    u = math.sqrt(3) * (math.log(0.3) + 1.151293) / 3.453878
    linear = layer.gate.network[0]
    expected = torch.sigmoid(linear.weight[:, 0] * u + linear.bias) * layer.layer(x)
    with model._signal.of(model._standardized(torch.tensor(0.3), x)):
        torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-6)


def test_the_sqrt_gate_and_its_kink() -> None:
    t = torch.tensor([-50.0, -1.0, -1e-12, 0.0, 1e-12, 3.0], dtype=torch.float64, requires_grad=True)
    value = sqrt_gate(t)
    expected = [1.0, math.sqrt(1 - math.exp(-1)), math.sqrt(-math.expm1(-1e-12)), 0.0, 0.0, 0.0]
    assert value.tolist() == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(value.sum(), t)
    assert torch.isfinite(gradient).all()
    assert gradient[3:].tolist() == [0, 0, 0]
    assert gradient[1].item() == pytest.approx(-math.exp(-1) / (2 * math.sqrt(1 - math.exp(-1))))
    assert sqrt_gate(torch.tensor(math.log(3 / 4), dtype=torch.float64)).item() == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_sqrt_gate_is_its_formula_to_the_bit_and_closed_is_zero(dtype: torch.dtype) -> None:
    t = torch.randn(4096, dtype=dtype, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 1, 4096)
    t = torch.cat([t.to(dtype), torch.zeros(1, dtype=dtype)]).requires_grad_()
    value, formula = sqrt_gate(t), torch.sqrt(torch.relu(-torch.expm1(t)))
    assert torch.equal(value, formula)
    assert (value[t >= 0] == 0).all()
    found, expected = (torch.autograd.grad(each.sum(), t)[0] for each in (value, formula))
    assert torch.equal(found, expected)


def test_gated_models_stack_under_vmap() -> None:
    models = [build("affine") for _ in range(2)]
    torch.nn.init.normal_(next(models[1].parameters()))
    x, noise = inputs("affine", models[0])
    beta = torch.tensor([0.1, 1.0, 9.0], dtype=torch.float64)
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta")

    def distortion(parameters, buffers):  # type: ignore[no-untyped-def]
        return functional_call(skeleton, (parameters, buffers), (x, noise, beta)).distortion

    found = vmap(distortion)(parameters, buffers)
    for lane, model in enumerate(models):
        torch.testing.assert_close(found[lane], model(x, noise, beta).distortion, rtol=1e-10, atol=1e-10)


def test_nothing_to_gate_is_refused() -> None:
    with pytest.raises(ValueError, match="no hidden layers"):
        ModelConfig(backbone=MLPConfig(hidden=()), gating=GatingConfig()).build((1, 2, 3))
    with pytest.raises(ValueError, match="no batch norm"):
        ModelConfig(backbone=MLPConfig(), gating=GatingConfig(place="batch-norm")).build((1, 2, 3))
    with pytest.raises(ValueError, match="must contain beta = 1"):
        GatingConfig(low=2, high=3)
    with pytest.raises(ValueError, match="start theorem-1 is of affine gates"):
        GatingConfig(start="theorem-1", network="mlp")
