"""What every combination of parts must do: shapes, purity, gradients, `vmap`, state."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from tests.catalogue import BETAS, LATENT, MODELS, OBJECTIVES, build, draw, goes_together, inputs, loss
from vae_models.objectives.elbo import Elbo
from vae_models.topologies.vae.model import VAE

# the rest is refused when a spec is read: the objective would leave the posterior or the prior untrained
ACCEPTED = [pair for pair in product(OBJECTIVES, MODELS) if goes_together(*pair)]
BETA = torch.tensor(0.7, dtype=torch.float64)


@pytest.mark.parametrize("name", MODELS)
def test_trace_has_the_promised_shapes(name: str) -> None:
    model = build(name)
    x, noise = inputs(name)
    trace = model(x, noise)
    (latent,) = trace.latents
    assert trace.target is x
    assert trace.mean.shape == x.shape
    assert trace.decoded.shape == (4, x.shape[1] * model.likelihood.parameters_per_element(), *x.shape[2:])
    for tensor in (latent.sample, latent.mean, latent.log_std):
        assert tensor.shape == (4, LATENT)
    for tensor in (latent.log_q, latent.log_p, latent.rate, trace.rate, trace.distortion):
        assert tensor.shape == (4,)
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_declared_noise_is_what_it_takes(name: str) -> None:
    model = build(name)
    x, noise = inputs(name)
    assert {key: (4, *spec.shape) for key, spec in model.noise().items()} == {k: v.shape for k, v in noise.items()}
    assert model.sample_mean(draw(model.prior_noise(), 4, torch.Generator().manual_seed(0))).shape == x.shape


@pytest.mark.parametrize("name", MODELS)
def test_several_samples_are_rows_side_by_side(name: str) -> None:
    """Sample k of datum i is row i K + k, the same as a pass with that sample's noise alone."""
    model = build(name).eval()
    x, noise = inputs(name, samples=3)
    trace = model(x, noise)
    assert trace.samples == 3
    for k in range(3):
        alone = model(x, {key: value[:, k] for key, value in noise.items()})
        assert alone.samples == 1
        for found, expected in (
            (trace.distortion, alone.distortion),
            (trace.rate, alone.rate),
            (trace.squared_error, alone.squared_error),
            (trace.latents[0].sample, alone.latents[0].sample),
            (trace.target, alone.target),
        ):
            torch.testing.assert_close(found.unflatten(0, (4, 3))[:, k], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_decode_of_the_sample_is_the_trace_mean(name: str) -> None:
    model = build(name).eval()  # batch norm: the running statistics, the same in both calls
    trace = model(*inputs(name))
    assert torch.equal(model.decode(trace.latents[0].sample), trace.mean)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_a_pure_function_of_the_seed(name: str) -> None:
    first, again, other = build(name, seed=5), build(name, seed=5), build(name, seed=6)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_pure(name: str) -> None:
    """Same inputs, same bits; no generator is touched; nothing but running statistics changes."""
    model = build(name)
    twin = copy.deepcopy(model)
    before = torch.random.get_rng_state()
    losses = [loss(net, Elbo(), *inputs(name), BETA).total for net in (model, twin)]
    assert torch.equal(*losses)
    assert torch.equal(before, torch.random.get_rng_state())
    changed = {
        key for key, value in model.state_dict().items() if not torch.equal(value, build(name).state_dict()[key])
    }
    running = {"running_mean", "running_var", "num_batches_tracked", "running_variance", "batches"}
    assert {key.rsplit(".", 1)[1] for key in changed} <= running


@pytest.mark.parametrize(("objective", "name"), ACCEPTED)
def test_every_parameter_gets_a_gradient(objective: str, name: str) -> None:
    model = build(name, dtype=torch.float32)
    part = OBJECTIVES[objective].build(100, MODELS[name][1], LATENT)
    x, noise = inputs(name, samples=part.samples, dtype=torch.float32)
    noise |= draw(part.noise(), 4, torch.Generator().manual_seed(0), torch.float32)
    found = loss(model, part, x, noise, BETA)
    found.total.backward()
    assert torch.isfinite(found.total)
    assert {term: value.requires_grad for term, value in found.terms.items()} == dict.fromkeys(found.terms, False)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        if not _idle(key, model):
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", MODELS)
def test_vmap_over_stacked_parameters_equals_separate_models(name: str) -> None:
    models = [build(name, seed=seed) for seed in range(3)]
    x, noise = inputs(name)
    betas = torch.tensor([0.1, 1.0, 4.0], dtype=torch.float64)
    separate = [_loss_and_gradients(model, x, noise, beta) for model, beta in zip(models, betas, strict=True)]
    skeleton = copy.deepcopy(models[0]).to("meta")
    fresh = [build(name, seed=seed) for seed in range(3)]  # the calls above moved the running statistics
    parameters, buffers = stack_module_state(fresh)  # type: ignore[arg-type]

    def total(parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], beta: Tensor) -> Tensor:
        trace = functional_call(skeleton, (parameters, buffers), (x, noise, beta))
        return Elbo()(trace, beta, model=skeleton, noise=noise).total

    gradients, values = vmap(grad_and_value(total))(parameters, buffers, betas)
    for lane, (value, expected) in enumerate(separate):
        torch.testing.assert_close(values[lane], value, rtol=1e-12, atol=1e-12)
        largest = float(torch.stack([gradient.abs().max() for gradient in expected.values()]).max())
        for key, gradient in expected.items():
            torch.testing.assert_close(gradients[key][lane], gradient, rtol=1e-9, atol=1e-13 * largest, msg=key)


@pytest.mark.parametrize("kind", BETAS)
def test_beta_controllers_are_pure_functions_of_state_and_step(kind: str) -> None:
    controller = BETAS[kind].build(steps_per_epoch=10.5)
    state = controller.initial()
    noise = draw(controller.noise(), 4, torch.Generator().manual_seed(0))
    values = [controller.beta(state, step, noise) for step in (3, 50, 3)]
    assert values[0].shape in ((), (4,))
    assert torch.equal(values[0], values[2])
    kept = {key: value.clone() for key, value in state.items()}
    after = controller.update(state, {"distortion": torch.tensor(2.0), "squared_error": torch.tensor(0.1)})
    assert after is not state
    assert after.keys() == kept.keys()
    assert all(torch.allclose(state[key], kept[key], rtol=0, atol=0, equal_nan=True) for key in kept)


def _idle(key: str, model: VAE) -> bool:
    """A convolution's bias before batch norm: subtracted again with the batch mean, so its gradient is 0 (rounding)."""
    parent, _, leaf = key.rpartition(".")
    module = model.get_submodule(parent)
    block = model.get_submodule(parent.rpartition(".")[0])
    followed = isinstance(block, torch.nn.Sequential) and len(block) == 3 and block[0] is module
    return leaf == "bias" and followed and isinstance(block[1], torch.nn.modules.batchnorm._BatchNorm)


def _loss_and_gradients(
    model: VAE, x: Tensor, noise: Mapping[str, Tensor], beta: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    total = loss(model, Elbo(), x, noise, beta).total
    gradients = torch.autograd.grad(total, list(model.parameters()))
    return total.detach(), dict(zip(dict(model.named_parameters()), gradients, strict=True))
