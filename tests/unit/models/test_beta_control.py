"""beta against its formula."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vae_models.control.specs import (
    AlternativeBetaConfig,
    ConstantBetaConfig,
    CyclicBetaConfig,
    GecoBetaConfig,
    LogUniformBetaConfig,
    RewoBetaConfig,
    WarmupBetaConfig,
)

BETA = st.floats(0, 100)


@settings(deadline=None)
@given(value=BETA, step=st.integers(0, 10**9))
def test_constant(value: float, step: int) -> None:
    controller = ConstantBetaConfig(value=value).build(steps_per_epoch=7.0)
    assert controller.beta({}, step, {}).item() == value


def test_warmup_by_hand() -> None:
    controller = WarmupBetaConfig(start=0.2, value=1.0, epochs=2).build(steps_per_epoch=2.5)
    expected = [0.2, 0.36, 0.52, 0.68, 0.84, 1.0, 1.0, 1.0]
    assert [controller.beta({}, step, {}).item() for step in range(8)] == pytest.approx(expected, abs=1e-15)


@settings(deadline=None)
@given(start=BETA, value=BETA, epochs=st.floats(0.01, 100), per_epoch=st.floats(1, 1e5), step=st.integers(0, 10**7))
def test_warmup_stays_between_its_ends_and_ends_exactly(
    start: float, value: float, epochs: float, per_epoch: float, step: int
) -> None:
    controller = WarmupBetaConfig(start=start, value=value, epochs=epochs).build(steps_per_epoch=per_epoch)
    beta = controller.beta({}, step, {}).item()
    slack = 1e-12 * max(start, value)
    assert min(start, value) - slack <= beta <= max(start, value) + slack
    assert controller.beta({}, 0, {}).item() == start
    if step >= epochs * per_epoch:
        assert beta == value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_beta_does_not_change_the_precision_of_what_it_multiplies(dtype: torch.dtype) -> None:
    beta = WarmupBetaConfig().build(steps_per_epoch=3.0).beta({}, 1, {})
    assert (beta * torch.ones(2, dtype=dtype)).dtype == dtype


def test_cyclic_by_hand() -> None:
    """Cycles of 8 steps that rise for 4: start, and half-way up after 2."""
    controller = CyclicBetaConfig(start=0.0, value=2.0, cycle_epochs=2, rising=0.5).build(steps_per_epoch=4.0)
    values = [controller.beta({}, step, {}).item() for step in range(10)]
    assert values == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 0.0, 0.5])


def test_log_uniform_covers_its_range_evenly() -> None:
    controller = LogUniformBetaConfig(low=0.01, high=10).build(1.0)
    assert {name: (spec.shape, spec.kind) for name, spec in controller.noise().items()} == {"beta": ((), "uniform")}
    ends = controller.beta({}, 0, {"beta": torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)})
    middle = math.exp(-1.151293)  # m of this range; h = 3.453878
    assert ends.tolist() == pytest.approx([0.01, middle, 10.0], rel=1e-6)
    with pytest.raises(ValidationError, match="low 2 must be below high 1"):
        LogUniformBetaConfig(low=2, high=1)


def moved(config: RewoBetaConfig | GecoBetaConfig | AlternativeBetaConfig, beta: float, error: float) -> float:
    """beta after one step of the second phase, from `beta`, with a moving average that equals `error`."""
    controller = config.build(10.0)
    state = {"beta": beta, "average": error, "phase": 2.0}
    tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in state.items()}
    return controller.update(tensors, {"squared_error": torch.tensor(error)})["beta"].item()


@pytest.mark.parametrize(
    ("beta", "error", "exponent"),
    [
        (0.5, 0.02, 2 * math.tanh(3 * -0.5) * -0.02),  # holds, below 1: rises
        (2.0, 0.02, 2 * math.tanh(3 * 1.0) * -0.02),  # holds, above 1: falls
        (1.0, 0.02, 0.0),  # holds, at 1: stays
        (0.5, 0.07, 2 * -1 * 0.03),  # violated, below 1: falls
        (2.0, 0.07, 2 * -1 * 0.03),  # violated, above 1: falls
    ],
)
def test_rewo_by_hand(beta: float, error: float, exponent: float) -> None:
    """kappa^2 = 0.04, nu = 2, tau = 3."""
    found = moved(RewoBetaConfig(kappa=0.2, nu=2, tau=3), beta, error)
    assert found == pytest.approx(beta * math.exp(exponent), rel=1e-6)
    assert (found > beta) == (exponent > 0)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("error", [0.02, 0.07])
def test_geco_by_hand(beta: float, error: float) -> None:
    """Rises while the constraint holds, on both sides of 1."""
    found = moved(GecoBetaConfig(kappa=0.2, nu=2), beta, error)
    assert found == pytest.approx(beta * math.exp(-2 * (error - 0.04)), rel=1e-6)


@pytest.mark.parametrize("error", [0.02, 0.07])
def test_the_alternative_by_hand(error: float) -> None:
    """beta = 1 / (1 + 4 gamma): gamma is 0.25 at beta = 0.5, then times exp(2 delta)."""
    found = moved(AlternativeBetaConfig(kappa=0.2, nu=2, tau=4), 0.5, error)
    assert found == pytest.approx(1 / (1 + 4 * 0.25 * math.exp(2 * (error - 0.04))), rel=1e-6)


def test_two_phases_and_the_moving_average() -> None:
    """Errors 1, 0, 0 with alpha 0.5 average to 1, 0.5, 0.25: below kappa^2 = 0.3 after the third; then never back."""
    controller = RewoBetaConfig(kappa=math.sqrt(0.3), alpha=0.5, start=0.01).build(10.0)
    state = controller.initial()
    averages, held, betas = [], [], []
    for error in (1.0, 0.0, 0.0, 10.0, 10.0):
        held.append(controller.trains_prior(state).item())
        betas.append(controller.beta(state, 0, {}).item())
        state = controller.update(state, {"squared_error": torch.tensor(error)})
        averages.append(state["average"].item())
    assert averages == pytest.approx([1.0, 0.5, 0.25, 5.125, 7.5625])
    assert held == [0, 0, 0, 1, 1]
    assert betas[:3] == [0.01] * 3
    assert betas[3] > 0.01 > betas[4]
    assert GecoBetaConfig(kappa=1).build(1.0).trains_prior(GecoBetaConfig(kappa=1).build(1.0).initial()) is None


@settings(deadline=None)
@given(
    beta=st.floats(1e-6, 1e6), error=st.floats(0, 1e6), nu=st.floats(1e-3, 1e3), kind=st.sampled_from(["rewo", "geco"])
)
def test_constrained_beta_moves_the_right_way_and_stays_finite(beta: float, error: float, nu: float, kind: str) -> None:
    config = RewoBetaConfig(kappa=0.2, nu=nu) if kind == "rewo" else GecoBetaConfig(kappa=0.2, nu=nu)
    found = moved(config, beta, error)
    assert 1e-10 <= found <= 1e10
    if error > 0.0401:
        assert found <= beta
    elif error < 0.0399 and (kind == "geco" or beta < 1):
        assert found >= beta
