"""A second stage learns the aggregate of posteriors, not the prior and not the posterior means alone."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from scipy import stats
from torch import Tensor

from vae_models import random
from vae_models.evaluation.fitting.latents import DrawnLatents
from vae_models.evaluation.fitting.second_stage import SecondStage, SecondStageFitter
from vae_models.protocols import Model
from vae_models.records import Encoding, NoiseSpec
from vae_models.samplers.specs import SecondStageConfig

CPU = torch.device("cpu")
NO_MODEL = cast(Model, None)  # the law reads nothing of the first stage
SMALL = SecondStageConfig(width=32, layers=2, steps=1000, batch_size=128, lr=1e-2)
DRAWN = 4000


def normal(*shape: int, stream: str) -> Tensor:
    spec = NoiseSpec(shape=shape[1:])
    return random.draw(spec, shape[0], seed=7, step=0, stream=stream, device=CPU, dtype=torch.float64)


def banana(n: int, stream: str) -> Tensor:
    """(3 + a, a^2 / 2 + b / 4): shifted, curved, nothing like N(0, I)."""
    a, b = normal(n, 2, stream=stream).unbind(1)
    return torch.stack([3 + a, a.square() / 2 + b / 4], 1)


def quietly(done: int, total: int) -> None:
    pass


def law(posteriors: Encoding, sampler: SecondStageConfig = SMALL) -> SecondStage:
    fitter = cast(SecondStageFitter, sampler.fitter())
    return fitter.law(fitter.fit(posteriors, seed=0, device=CPU, tell=quietly), CPU)


def sampled(second: SecondStage) -> Tensor:
    specs = second.noise(NO_MODEL)
    return second.z(NO_MODEL, {name: normal(DRAWN, *spec.shape, stream=name) for name, spec in specs.items()})


@pytest.fixture(scope="module")
def curved() -> SecondStage:
    return law(Encoding(mean=banana(3000, "data"), log_std=None, raw=None))


@pytest.mark.parametrize("direction", [(1.0, 0.0), (0.0, 1.0), (0.6, 0.8)])
def test_its_samples_are_near_a_curved_aggregate(curved: SecondStage, direction: tuple[float, float]) -> None:
    """The distance of distribution functions (Kolmogorov-Smirnov) is a tenth of the prior's."""
    truth = (banana(DRAWN, "truth") @ torch.tensor(direction).double()).numpy()
    ours = (sampled(curved) @ torch.tensor(direction).double()).numpy()
    prior = (normal(DRAWN, 2, stream="prior") @ torch.tensor(direction).double()).numpy()
    distance, of_prior = (stats.ks_2samp(each, truth).statistic for each in (ours, prior))
    assert distance < 0.08
    assert of_prior > 4 * distance


def test_it_is_trained_on_draws_of_the_posteriors_and_not_on_their_means() -> None:
    """Every mean is (1, -2) and every deviation (0.5, 2): the aggregate is that normal, and means alone are a point."""
    std = torch.tensor([0.5, 2.0], dtype=torch.float64)
    means = torch.tensor([[1.0, -2.0]], dtype=torch.float64).expand(500, 2)
    short = SMALL.model_copy(update={"steps": 700})
    z = sampled(law(Encoding(mean=means, log_std=std.log().expand(500, 2), raw=None), short))
    torch.testing.assert_close(z.std(0), std, rtol=0.08, atol=0)
    assert ((z.mean(0) - means[0]).abs() < 0.15 * std).all()


def test_its_bound_lies_below_the_density_and_near_it(curved: SecondStage) -> None:
    """log p(z) of the banana is in closed form: z1 - 3 and z2 - a^2 / 2 are independent normals."""
    z = banana(1000, "held out")
    a = z[:, 0] - 3
    exact = stats.norm.logpdf(a) + stats.norm.logpdf((z[:, 1] - a.square() / 2).numpy(), scale=0.25)
    noise = {name: normal(1000, *spec.shape, stream=name) for name, spec in curved.density_noise(NO_MODEL).items()}
    found = curved.log_prob(NO_MODEL, z, noise)
    assert exact.mean() - 0.5 < found.mean().item() < exact.mean() + 0.02
    entropy = math.log(2 * math.pi * math.e) + math.log(0.25)  # of the two normals, nats
    assert exact.mean() == pytest.approx(-entropy, abs=0.1)


def test_a_temperature_of_0_gives_one_point(curved: SecondStage) -> None:
    zeros = {name: torch.zeros(5, *spec.shape).double() for name, spec in curved.noise(NO_MODEL).items()}
    z = curved.z(NO_MODEL, zeros)
    torch.testing.assert_close(z, z[:1].expand(5, 2))


def test_a_batch_is_drawn_from_the_posteriors() -> None:
    encoding = Encoding(mean=normal(9, 3, stream="m"), log_std=normal(9, 3, stream="s"), raw=None)
    rows, indices = DrawnLatents(encoding, CPU, torch.float64), torch.tensor([4, 0, 4])
    (name,), noise = rows.noise(), normal(3, 3, stream="n")
    z = rows.batch(indices, {name: noise})
    for row, datum in enumerate(indices.tolist()):
        expected = encoding.mean[datum] + encoding.log_std[datum].exp() * noise[row]  # type: ignore[index]
        torch.testing.assert_close(z[row], expected)
    encoding.mean[4, 1] = math.nan
    assert DrawnLatents(encoding, CPU, torch.float64).unfit(indices) == (4, 4)


def test_progress_is_told_and_can_end_it() -> None:
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))
        if done >= 40:
            raise KeyboardInterrupt

    encoding = Encoding(mean=banana(64, "data"), log_std=None, raw=None)
    with pytest.raises(KeyboardInterrupt):
        SMALL.fitter().fit(encoding, seed=0, device=CPU, tell=tell)
    assert told == [(20, 1000), (40, 1000)]


def test_a_training_that_diverges_says_so() -> None:
    encoding = Encoding(mean=1e3 * banana(64, "data"), log_std=None, raw=None)
    wild = SMALL.model_copy(update={"lr": 1e30})
    with pytest.raises(ValueError, match="the second stage's training diverged, try a smaller lr"):
        wild.fitter().fit(encoding, seed=0, device=CPU, tell=quietly)


@pytest.mark.parametrize(("given", "budget"), [({}, 10_000), ({"steps": 7}, 7), ({"epochs": 2.5}, None)])
def test_it_is_as_long_as_it_is_asked_to_be(given: dict[str, Any], budget: int | None) -> None:
    sampler = SecondStageConfig.model_validate(given)
    assert sampler.budget() == budget
    config = cast(SecondStageFitter, sampler.fitter()).config(
        Encoding(mean=banana(9, "data"), log_std=None, raw=None), 0
    )
    assert (config.steps, config.epochs) == (budget, given.get("epochs"))
    with pytest.raises(ValueError, match="not both"):
        SecondStageConfig(steps=1, epochs=1)
