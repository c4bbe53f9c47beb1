"""One optimizer step of several lanes is each lane's own, whatever differs between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vae_models.control.constrained import Alternative, Geco, Rewo
from vae_models.optimization.specs import AdamaxConfig, AdamConfig, AdamWConfig, OptimizerSpec, SGDConfig
from vae_models.training.step import set_learning_rate
from vae_models.training.window import StackedWindow, Window

CPU = torch.device("cpu")
STEPS = 5
AVERAGES = [(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)]
LANES: dict[str, list[OptimizerSpec]] = {
    "adam": [AdamConfig(betas=betas, eps=10.0**-place) for place, betas in enumerate(AVERAGES, 4)],
    "adam with decay": [AdamConfig(betas=AVERAGES[0], weight_decay=decay) for decay in (0.0, 0.1, 0.3)],
    "adamw": [
        AdamWConfig(betas=betas, weight_decay=decay) for betas, decay in zip(AVERAGES, (0, 0.1, 0.3), strict=True)
    ],
    "adamax": [
        AdamaxConfig(betas=betas, weight_decay=decay) for betas, decay in zip(AVERAGES, (0, 0.1, 0), strict=True)
    ],
    "sgd": [SGDConfig(momentum=momentum) for momentum in (0.9, 0.5, 0.1)],
    "nesterov": [SGDConfig(momentum=momentum, nesterov=True, weight_decay=0.1) for momentum in (0.9, 0.5, 0.1)],
}


def rates(step: int) -> list[float]:
    return [0.1 / (step + 1), 0.01, 0.003 * (step + 1)]


def slopes(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return slopes that depend on where the parameters are, so that one wrong step shows in all later ones."""
    return [(3 * parameter.detach()).sin() + 0.1 for parameter in parameters]


def start() -> list[Tensor]:
    """Return three lanes of two parameters."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, *shape, generator=generator, dtype=torch.float64) for shape in ((4, 2), ())]


@pytest.mark.parametrize("name", LANES)
def test_each_lane_gets_its_own_optimizers_step(name: str) -> None:
    specs = LANES[name]
    stacked = type(specs[0]).stacked(specs, CPU)
    assert stacked is not None
    stacks = start()
    states = [stacked.fresh(stack) for stack in stacks]
    alone = [[nn.Parameter(stack[lane].clone()) for stack in start()] for lane in range(3)]
    optimizers = [spec.build(parameters) for spec, parameters in zip(specs, alone, strict=True)]
    for step in range(STEPS):
        stacked.step(stacks, slopes(stacks), states, torch.tensor(rates(step), dtype=torch.float64))
        for parameters, optimizer, rate in zip(alone, optimizers, rates(step), strict=True):
            for parameter, slope in zip(parameters, slopes(parameters), strict=True):
                parameter.grad = slope
            set_learning_rate(optimizer, rate)
            optimizer.step()
    for lane, (parameters, optimizer) in enumerate(zip(alone, optimizers, strict=True)):
        for parameter, stack, state in zip(parameters, stacks, states, strict=True):
            torch.testing.assert_close(stack[lane], parameter.detach(), rtol=1e-12, atol=1e-14)
            own = {key: value for key, value in optimizer.state[parameter].items() if value is not None}
            assert own.keys() == state.keys()  # so that its checkpoints are the same
            for key, value in own.items():
                torch.testing.assert_close(state[key][lane], value, rtol=1e-12, atol=1e-14)
                assert state[key].dtype == value.dtype


def test_lanes_that_cannot_share_a_step_have_none() -> None:
    class Other(AdamConfig):
        """As a package may bring it, with an optimizer of its own."""

    assert Other.stacked([Other(), Other()], CPU) is None
    assert SGDConfig.stacked([SGDConfig(), SGDConfig(nesterov=True)], CPU) is None


CONTROLLERS: dict[str, Callable[..., Any]] = {
    "rewo": lambda kappa, nu: Rewo(kappa=kappa, nu=nu, start=0.01, tau=1 + nu, alpha=0.5),
    "geco": lambda kappa, nu: Geco(kappa=kappa, nu=nu, start=1.0, alpha=0.9),
    "alternative": lambda kappa, nu: Alternative(kappa=kappa, nu=nu, start=0.01, tau=2 * nu),
}


@settings(max_examples=20)
@given(
    kind=st.sampled_from(sorted(CONTROLLERS)),
    numbers=st.lists(st.tuples(st.floats(0.1, 1), st.floats(0.1, 3)), min_size=1, max_size=4),
    errors=st.lists(st.floats(0, 1), min_size=2, max_size=6),
)
def test_one_controller_is_that_of_every_lane(
    kind: str, numbers: list[tuple[float, float]], errors: list[float]
) -> None:
    lanes = [CONTROLLERS[kind](kappa, nu) for kappa, nu in numbers]
    together = lanes[0].stacked(lanes, CPU)
    states = [lane.initial() for lane in lanes]
    stack = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    for error in errors:
        of_lanes = torch.linspace(0.5, 1.5, len(lanes), dtype=torch.float64) * error
        gates = together.trains_prior(stack)
        for lane, (controller, state) in enumerate(zip(lanes, states, strict=True)):
            gate = controller.trains_prior(state)
            assert (gates is None) == (gate is None)
            assert gate is None or gates is None or float(gates[lane]) == float(gate)
            states[lane] = controller.update(state, {"squared_error": of_lanes[lane]})
        stack = together.update(stack, {"squared_error": of_lanes})
        for name, values in stack.items():
            expected = torch.stack([state[name] for state in states])
            torch.testing.assert_close(values, expected, rtol=1e-12, atol=0)


def test_windows_of_lanes_that_log_at_different_steps() -> None:
    """One is full and cleared while the other goes on; then each has rows of its own."""
    windows = [Window(2, CPU, torch.float64), Window(4, CPU, torch.float64)]
    alone = [Window(2, CPU, torch.float64), Window(4, CPU, torch.float64)]
    windows[1].add(torch.tensor(9.0).double(), {"rate": torch.tensor(8.0).double()})  # before they were stacked
    alone[1].add(torch.tensor(9.0).double(), {"rate": torch.tensor(8.0).double()})
    stacked = StackedWindow(windows)
    for step in range(3):
        losses = torch.tensor([1.0, 2.0], dtype=torch.float64) + step
        stacked.add(losses, {"rate": losses / 2})
        for lane, window in enumerate(alone):
            window.add(losses[lane], {"rate": losses[lane] / 2})
        if step == 1:
            assert windows[0].read(1) == alone[0].read(1) == {"loss": 1.5, "rate": 0.75}
            windows[0].clear()
            alone[0].clear()
    stacked.close()
    assert [window.read(1) for window in windows] == [window.read(1) for window in alone]
    windows[0].add(torch.tensor(5.0).double(), {"rate": torch.tensor(5.0).double()})
    assert windows[1].read(1) == alone[1].read(1)
