"""The video topology's bound of a linear-Gaussian state-space model, whose log p(x) is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor, nn

from vae_models.likelihoods.gaussian import Gaussian
from vae_models.normal import kl_of_normals
from vae_models.topologies.video.model import Video

# two states that know nothing of each other, s_t = a s_{t-1} + N(0, w), s_1 ~ N(0, first); x_t = C s_t + N(0, r I),
# each state seen in pixels of its own, so that the posterior of both is diagonal
A, W, FIRST, R = (0.9, -0.5), (0.3, 0.8), (1.0, 2.0), 0.2
C = torch.tensor([[1.0, 0.0], [-0.5, 0.0], [0.0, 2.0], [0.0, 0.3], [0.0, -1.0]], dtype=torch.float64)
TIME, PIXELS, STATES = 6, 5, 2
Pair = tuple[Tensor, Tensor]


class LinearFrames(nn.Module):
    """Features are the pixels; what is decoded is C z."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Identity(), nn.Identity()

    def encode(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return x.flatten(1), ()

    def decode(self, features: Tensor, maps: object) -> Tensor:
        return (features @ C.T).view(-1, 1, 1, PIXELS)


class Forgetful(nn.Module):
    """A predictor that passes on z: s_t."""

    def forward(self, inputs: Tensor, state: None = None) -> tuple[Tensor, None]:
        return inputs[..., -STATES:], None


class Kalman(nn.Module):
    """p(s_t | x_<=t), or, `ahead`, p(s_{t+1} | x_<=t), of every t: the filter's recursion."""

    def __init__(self, *, ahead: bool, shift: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.ahead, self.shift, self.scale = ahead, shift, scale

    def forward(self, features: Tensor, state: Pair | None = None) -> tuple[Tensor, Tensor, Pair]:
        """state: mean and variance of the coming s_t, before its x is seen."""
        a, w, first = (torch.tensor(each, dtype=torch.float64) for each in (A, W, FIRST))
        mean, variance = (features.new_zeros(len(features), STATES), first) if state is None else state
        means, variances = [], []
        for x in features.unbind(1):
            power = C.square().sum(0)  # of x along C, for a unit of the state
            gain = variance / (variance * power + R)
            mean, variance = mean + gain * (x @ C - power * mean), gain * R
            following = (a * mean, a.square() * variance + w)
            for kept, each in zip((means, variances), following if self.ahead else (mean, variance), strict=True):
                kept.append(each.expand_as(mean))
            mean, variance = following
        log_std = torch.stack(variances, 1).log() / 2 + math.log(self.scale)
        return torch.stack(means, 1) + self.shift, log_std, (mean, variance)


def built(**another: Any) -> Video:
    return Video(
        LinearFrames(),
        predictor=Forgetful(),
        posterior=Kalman(ahead=False, **another),
        prior=Kalman(ahead=True),
        likelihood=Gaussian(sigma=math.sqrt(R), link="identity"),
        shape=(TIME, 1, 1, PIXELS),
        latent=STATES,
        context=2,
    ).double()


def data() -> Tensor:
    """Three videos of the model itself, [3, time, 1, 1, pixels]."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    a, w, first = (torch.tensor(each, dtype=torch.float64) for each in (A, W, FIRST))
    state, frames = first.sqrt() * draw(3, STATES), []
    for _ in range(TIME):
        frames.append(state @ C.T + math.sqrt(R) * draw(3, PIXELS))
        state = a * state + w.sqrt() * draw(3, STATES)
    return torch.stack(frames, 1).view(3, TIME, 1, 1, PIXELS)


def exact(x: Tensor) -> Tensor:
    """log p(x_2..x_T | x_1), [3], by the covariance of all pixels at all times: no recursion."""
    of_states = np.zeros((STATES, TIME, TIME))
    for state, (a, w, first) in enumerate(zip(A, W, FIRST, strict=True)):
        variances = [first]
        for _ in range(TIME - 1):
            variances.append(a * a * variances[-1] + w)
        for t in range(TIME):
            for s in range(TIME):
                of_states[state, t, s] = a ** abs(t - s) * variances[min(t, s)]
    c = C.numpy()
    covariance = np.einsum("kts,dk,ek->tdse", of_states, c, c).reshape(TIME * PIXELS, -1) + R * np.eye(TIME * PIXELS)
    flat = x.reshape(3, -1).numpy()
    whole = multivariate_normal(np.zeros(TIME * PIXELS), covariance).logpdf(flat)
    first_frame = multivariate_normal(np.zeros(PIXELS), covariance[:PIXELS, :PIXELS]).logpdf(flat[:, :PIXELS])
    return torch.from_numpy(whole - first_frame)


def sigma_points() -> Tensor:
    """Noise [1, 2 n, time - 1, states], n its elements, whose mean is exact of every quadratic function."""
    elements = (TIME - 1) * STATES
    points = math.sqrt(elements) * torch.eye(elements, dtype=torch.float64)
    return torch.cat([points, -points]).view(1, -1, TIME - 1, STATES)


def bound(model: Video, x: Tensor) -> Tensor:
    """E_q of the bound, exactly: given z, log p(x|z) is quadratic."""
    noise = sigma_points()
    trace = model(x, {"z": noise.expand(len(x), -1, -1, -1)})
    return -(trace.distortion + trace.rate).view(len(x), -1).mean(1)


def test_with_the_exact_posterior_the_bound_is_the_kalman_likelihood() -> None:
    model, x = built(), data()
    torch.testing.assert_close(bound(model, x), exact(x), rtol=1e-12, atol=0)
    noise = torch.randn(3, TIME - 1, STATES, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    trace = model(x, {"z": noise})
    weight = sum(latent.log_p - latent.log_q for latent in trace.latents) - trace.distortion
    assert isinstance(weight, Tensor)
    torch.testing.assert_close(weight, exact(x), rtol=1e-12, atol=0)  # for any z at all


@pytest.mark.parametrize("another", [{"shift": 0.1}, {"scale": 1.5}, {"shift": -0.4, "scale": 0.7}], ids=str)
def test_another_posterior_misses_it_by_its_divergence_from_the_exact_one(another: dict[str, float]) -> None:
    x = data()
    model = built(**another)
    own, true = (each(x.flatten(2))[:2] for each in (model.posterior, Kalman(ahead=False)))
    divergence = kl_of_normals(*(each[:, 1:].flatten(1) for each in (*own, *true)))
    gap = exact(x) - bound(model, x)
    assert (gap > 0.01).all()
    torch.testing.assert_close(gap, divergence, rtol=1e-9, atol=0)


def test_divergences_are_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_std, other, other_log_std = torch.randn(4, 3, 5, generator=generator, dtype=torch.float64)
    ours, theirs = (torch.distributions.Normal(m, s.exp()) for m, s in ((mean, log_std), (other, other_log_std)))
    expected = torch.distributions.kl_divergence(ours, theirs).sum(1)
    torch.testing.assert_close(kl_of_normals(mean, log_std, other, other_log_std), expected)


def test_a_prediction_continues_the_filter() -> None:
    """Without noise of z and of the frames, the state goes on by a: C a^k E[s | context]."""
    model, x = built(), data()
    noise = {name: torch.zeros(3, *spec.shape).double() for name, spec in model.prediction_noise(3).items()}
    frames = model.predict(x, 3, noise)
    mean, *_ = Kalman(ahead=False)(x[:, :2].flatten(2))
    for ahead in range(3):
        state = mean[:, -1] * torch.tensor(A, dtype=torch.float64) ** (ahead + 1)
        torch.testing.assert_close(frames[:, ahead].flatten(1), state @ C.T)
