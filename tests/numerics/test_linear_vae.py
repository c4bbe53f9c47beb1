"""The linear VAE's closed form against training, and theorem 1's gates against the response functions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vae_models.analytic import theorem_1
from vae_models.analytic.linear_vae import LinearVAE, distortion, optimal_rate_distortion, optimum, rate
from vae_models.config import GaussianConfig, MLPConfig, ModelConfig
from vae_models.models.multi_rate import MultiRate
from vae_models.models.vae import VAE
from vae_models.recipes import catalogue

BETAS = (0.01, 0.1, 0.5, 1.0, 2.0, 6.0)
LATENT = 3


def data() -> tuple[Tensor, Tensor]:
    """40 centred data in 5 dimensions with eigenvalues from about 4 to 0.05, and their covariance."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64)).Q
    x = torch.randn(40, 5, generator=generator, dtype=torch.float64) * torch.tensor([2.0, 1.2, 0.8, 0.4, 0.2]) @ mix
    x = x - x.mean(0)
    return x, x.T @ x / len(x)


@pytest.mark.parametrize("beta", BETAS)
def test_the_closed_form_is_its_own_rate_and_distortion(beta: float) -> None:
    _, s = data()
    model = optimum(s, LATENT, beta)
    expected = optimal_rate_distortion(s, LATENT, beta)
    assert rate(model, s).item() == pytest.approx(expected[0], abs=1e-12)
    assert distortion(model, s).item() == pytest.approx(expected[1], abs=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_no_direction_is_better(beta: float) -> None:
    """Small changes of D, E and C never lower distortion + beta x rate."""
    _, s = data()
    best = optimum(s, LATENT, beta)
    value = distortion(best, s) + beta * rate(best, s)
    generator = torch.Generator().manual_seed(1)
    for size in (1e-3, 0.1):
        for _ in range(20):
            near = LinearVAE(
                decoder=best.decoder + size * torch.randn(5, LATENT, generator=generator, dtype=torch.float64),
                encoder=best.encoder + size * torch.randn(LATENT, 5, generator=generator, dtype=torch.float64),
                covariance=best.covariance
                * torch.exp(size * torch.randn(LATENT, generator=generator, dtype=torch.float64)),
            )
            assert distortion(near, s) + beta * rate(near, s) > value - 1e-12


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0, 2.0])
def test_a_trained_linear_vae_gets_there(beta: float) -> None:
    """The real model and trace: LBFGS on the whole data, the noise by cubature, which is exact for a linear decoder."""
    x, s = data()
    torch.manual_seed(0)
    config = ModelConfig(latent=LATENT, backbone=MLPConfig(hidden=()), likelihood=GaussianConfig(sigma=1.0))
    model = config.build((1, 1, 5)).double()
    assert isinstance(model, VAE)
    images = x.view(-1, 1, 1, 5)
    points = math.sqrt(LATENT) * torch.cat([torch.eye(LATENT), -torch.eye(LATENT)]).double()

    def means() -> tuple[Tensor, Tensor]:
        trace = model(images, {"z": points.expand(len(images), -1, -1)})
        return trace.rate.mean(), trace.distortion.mean()

    optimizer = torch.optim.LBFGS(
        model.parameters(),
        lr=1,
        max_iter=2000,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        found_rate, found_distortion = means()
        total = found_distortion + beta * found_rate
        total.backward()
        return total

    optimizer.step(closure)
    found = [value.item() for value in means()]
    assert found == pytest.approx(optimal_rate_distortion(s, LATENT, beta), abs=1e-3)


SIX = (6.0, 3.0, 1.5, 0.8, 0.4, 0.2)  # eigenvalues of the covariance in 6 dimensions
NINE = [0.01 * 1000 ** (i / 8) for i in range(9)]


def cubature(deviations: Tensor) -> Tensor:
    """2 n points in n dimensions with mean 0 and this covariance's square root, [2 n, n]: exact for squares."""
    n = deviations.shape[0]
    return math.sqrt(n) * torch.cat([deviations.T, -deviations.T])


def recipes_model(latent: int) -> MultiRate:
    """The model of `mnist/mr-linear-vae` for 6 dimensions, its widths in proportion to the latent's."""
    config = catalogue()["mnist/mr-linear-vae"].build().model
    assert isinstance(config.backbone, MLPConfig)
    widths = tuple(width * latent // config.latent for width in config.backbone.hidden)
    backbone = config.backbone.model_copy(update={"hidden": widths})
    torch.manual_seed(0)
    model = config.model_copy(update={"latent": latent, "backbone": backbone}).build((1, 1, 6)).double()
    assert isinstance(model, MultiRate)
    return model


def test_fault_15_the_recipes_linear_vae_reaches_the_closed_form_at_every_beta() -> None:
    """Trained once for all beta in [0.01, 10], within 0.01 nats of distortion + beta x rate at nine of them.

    No noise of sampling: data, noise and log beta are cubature points. Adam, then LBFGS.
    """
    latent = 6
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    root = turn * torch.tensor(SIX, dtype=torch.float64).sqrt()
    images, s = cubature(root).view(-1, 1, 1, 6), root @ root.T
    points = cubature(torch.eye(latent, dtype=torch.float64))
    model = recipes_model(latent)

    def objectives(betas: Tensor) -> Tensor:
        """distortion + beta x rate at each beta."""
        x, each = images.repeat(len(betas), 1, 1, 1), betas.repeat_interleave(len(images))
        trace = model(x, {"z": points.expand(len(x), -1, -1)}, each)
        rate_, distortion_ = (value.view(len(betas), -1).mean(1) for value in (trace.rate, trace.distortion))
        total: Tensor = distortion_ + betas * rate_
        return total

    trained = torch.logspace(-2, 1, 25, dtype=torch.float64)
    adam = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(400):
        adam.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * step / 400))
        adam.zero_grad()
        objectives(trained).mean().backward()  # type: ignore[no-untyped-call]
        adam.step()
    lbfgs = torch.optim.LBFGS(
        model.parameters(),
        max_iter=600,
        max_eval=1200,
        history_size=50,
        tolerance_change=1e-13,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        lbfgs.zero_grad()
        loss = objectives(trained).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    lbfgs.step(closure)
    with torch.no_grad():
        found = objectives(torch.tensor(NINE, dtype=torch.float64))
    best = [optimal_rate_distortion(s, latent, beta) for beta in NINE]
    gaps = [
        value - distortion_ - beta * rate_
        for value, beta, (rate_, distortion_) in zip(found.tolist(), NINE, best, strict=True)
    ]
    assert min(gaps) > -1e-9
    assert max(gaps) < 0.01, gaps


ETAS = [math.log(beta) for beta in (1e-4, 0.01, 0.3, 1.0, 1.7, 5.0, 100.0)]


@pytest.mark.parametrize("eta", ETAS)
def test_theorem_1_encoder_and_covariance(eta: float) -> None:
    d = torch.randn(5, LATENT, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    first, second = theorem_1.gated_encoder(d)
    torch.testing.assert_close(
        second.at(eta) @ first.at(eta), theorem_1.encoder_response(d, eta), rtol=1e-12, atol=1e-12
    )
    d[:, 1] = 0  # a collapsed dimension
    found = theorem_1.gated_covariance(d).at(eta).diagonal()
    torch.testing.assert_close(found, theorem_1.covariance_response(d, eta), rtol=1e-12, atol=1e-12)
    assert found[1] == 1


@pytest.mark.parametrize("eta", ETAS)
def test_theorem_1_decoder(eta: float) -> None:
    _, s = data()
    rotation = torch.linalg.qr(
        torch.randn(LATENT, LATENT, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ).Q
    first, second = theorem_1.gated_decoder(s, rotation)
    expected = theorem_1.decoder_response(s, rotation, eta)
    torch.testing.assert_close(second.at(eta) @ first.at(eta), expected, rtol=1e-12, atol=1e-12)
    best = optimum(s, LATENT, math.exp(eta)).decoder
    torch.testing.assert_close(expected @ expected.T, best @ best.T, rtol=1e-10, atol=1e-12)
