"""A multi-rate model at several beta in one pass: each beta's numbers are those of a pass of its own."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from tests import catalogue
from vae_models.metrics.sums import values
from vae_models.topologies.over_betas import OverBetas
from vae_models.topologies.vae.specs import ModelConfig

BETAS = (0.03, 0.4, 1.0, 7.0)


def built(gating: str) -> tuple[nn.Module, Tensor, Mapping[str, Tensor]]:
    gates, backbone, shape = catalogue.GATINGS[gating]
    torch.manual_seed(0)
    model = ModelConfig(latent=3, backbone=backbone, gating=gates).build(shape).double()
    x = torch.rand((11, *shape), dtype=torch.float64)
    noise = {name: torch.randn((11, *spec.shape), dtype=torch.float64) for name, spec in model.noise().items()}  # type: ignore[operator]
    model(x, noise, torch.rand(11, dtype=torch.float64) + 0.1)  # the norms have statistics of their own
    return model.eval(), x, noise


@pytest.mark.parametrize("rows", [1, 12, 10_000])
@pytest.mark.parametrize("gating", catalogue.GATINGS)
def test_every_gating_at_every_beta_as_alone(gating: str, rows: int) -> None:
    """However many rows are computed at a time, the last part of a batch smaller than the others."""
    model, x, noise = built(gating)
    together = OverBetas(model, torch.tensor(BETAS, dtype=torch.float64), rows=rows)
    found = together(values, x, noise)
    assert together.reason is None
    for place, beta in enumerate(BETAS):
        with torch.no_grad():
            alone = values(model(x, noise, torch.tensor(beta, dtype=torch.float64)))
        assert found.keys() == alone.keys()
        for name, expected in alone.items():
            torch.testing.assert_close(found[name][place], expected, rtol=1e-10, atol=1e-10)


def test_what_no_gate_precedes_is_computed_once() -> None:
    """The first layer sees the data alone, and the second one the data at every beta."""
    model, x, noise = built("affine")
    first, second, *_ = [
        module for module in model.modules() if isinstance(module, nn.Linear) and module.in_features > 1
    ]
    mapped: list[bool] = []
    for layer in (first, second):
        layer.register_forward_hook(
            lambda module, given, result: mapped.append(torch._C._functorch.is_batchedtensor(result))
        )
    OverBetas(model, torch.tensor(BETAS, dtype=torch.float64), rows=10_000)(values, x, noise)
    assert mapped == [False, True]


class Reads(nn.Module):
    """A model that looks at beta's value, which a map over beta has not."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, noise: Mapping[str, Tensor], beta: Tensor, mask: Tensor | None = None) -> object:
        return self.model(x, noise, torch.tensor(beta.item(), dtype=beta.dtype), mask)


def test_what_cannot_be_mapped_has_a_pass_for_each_beta() -> None:
    model, x, noise = built("affine")
    betas = torch.tensor(BETAS, dtype=torch.float64)
    expected = OverBetas(model, betas, rows=1000)(values, x, noise)
    in_turn = OverBetas(Reads(model), betas, rows=1000)
    for _ in range(2):
        found = in_turn(values, x, noise)
        for name, each in expected.items():
            torch.testing.assert_close(found[name], each, rtol=1e-10, atol=1e-10)
    assert in_turn.reason is not None
    assert "item" in in_turn.reason
