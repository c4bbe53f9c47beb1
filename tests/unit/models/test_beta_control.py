"""beta against its formula."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_models.config import ConstantBetaConfig, WarmupBetaConfig

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
