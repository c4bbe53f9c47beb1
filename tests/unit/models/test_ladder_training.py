"""A ladder in what trains every model: beta ruled by a constraint, lanes of one stack, or the reason why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.catalogue import draw
from tests.golden.recipes import generated
from vae_models.config.shape import reason_against
from vae_models.config.train import TrainConfig
from vae_models.precision import Precision
from vae_models.topologies.ladder.model import Ladder
from vae_models.training.context import LocalContext
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.lanes import Widths, train_pack
from vae_models.training.loop import Run, train

MODEL = {"kind": "nvae", "channels": 4, "latent": 2, "groups": 2, "blocks": 0, "encoder_cells": 1, "decoder_cells": 1}
PLAIN = MODEL | {"spectrum": False, "likelihood": {"kind": "gaussian"}}


def config(model: dict[str, Any], **fields: Any) -> TrainConfig:
    given = {
        "data": {"name": "digits"}, "model": model, "steps": 6, "batch_size": 6, "log_every_steps": 1,
        "dtype": "float64", "evaluation": {"every_epochs": 100, "batch_size": 8, "pictures": False},
    }  # fmt: skip
    return TrainConfig.model_validate(given | fields)


def losses(folder: Path) -> list[float]:
    lines = (json.loads(line)["metrics"] for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.mark.parametrize("kind", ["rewo", "geco"])
@pytest.mark.parametrize("kappa", [1e-6, 100.0])
def test_beta_is_ruled_over_the_summed_rate(kind: str, kappa: float, tmp_path: Path) -> None:
    """Beta falls, or is held, while the constraint is violated, and rises once it holds; REWO trains the prior then."""
    ruled = config(PLAIN, beta={"kind": kind, "kappa": kappa})
    run = Run(ruled, LocalContext(tmp_path), generated(ruled))
    assert isinstance(run.model, Ladder)
    priors = [value.detach().clone() for value in run.model.groups()["prior"]]
    others = [value.detach().clone() for value in run.model.groups()["decoder"]]
    going, betas = run.begin(), list[float]()
    while going and not run.done:
        run.step()
        betas.append(float(run.beta))
        going = run.after_step()
    violated = kappa < 1
    moved = any(not torch.equal(*each) for each in zip(priors, run.model.groups()["prior"], strict=True))
    assert moved == (not violated or kind == "geco")
    assert any(not torch.equal(*each) for each in zip(others, run.model.groups()["decoder"], strict=True))
    assert betas[-1] <= betas[0] if violated else betas[-1] > betas[0]
    run.close()


def test_ladders_without_singular_vectors_are_one_stack(tmp_path: Path) -> None:
    configs = [config(PLAIN), config(PLAIN, seed=3, optimizer={"lr": 3e-3})]
    data = generated(configs[0])
    assert [reason_against(each) for each in configs] == [None, None]
    for number, each in enumerate(configs):
        train(each, LocalContext(tmp_path / f"alone-{number}"), dataset=data)
    widths, contexts = Widths(), [LocalContext(tmp_path / f"lane-{number}") for number in range(2)]
    train_pack(configs, contexts, dataset=data, width=2, widths=widths)
    assert widths.reasons == {}
    for number in range(2):
        assert losses(tmp_path / f"lane-{number}") == pytest.approx(losses(tmp_path / f"alone-{number}"), rel=1e-8)


def test_a_ladder_with_singular_vectors_says_why_it_is_no_lane() -> None:
    reason = reason_against(config(MODEL, objective={"kind": "ladder-elbo"}, data={"name": "binarized-mnist"}))
    assert reason == "model nvae improves its singular vectors in place: each configuration is trained alone"


# --- half precision, and what is not finite ---------------------------------------------------------------------------

FLOAT16_MOST = 65504.0


def _nats(model: Ladder, x: torch.Tensor, noise: dict[str, torch.Tensor]) -> torch.Tensor:
    trace = model(x, noise)
    return torch.stack([trace.distortion, sum((latent.rate for latent in trace.latents), torch.zeros(len(x)))])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_nats_beyond_float16_are_right_in_half_precision(dtype: torch.dtype) -> None:
    """Of a Gaussian with a small sigma: densities and their sums are float32's, whatever the networks compute in."""
    torch.manual_seed(0)
    narrow = MODEL | {"spectrum": False, "likelihood": {"kind": "gaussian", "sigma": 1e-3}}
    run = config(narrow, dtype="float32")
    model = run.model.build((1, 8, 8)).train()
    assert isinstance(model, Ladder)
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.rand(6, 1, 8, 8, generator=generator), dict(draw(model.noise(), 6, generator))
    full = _nats(model, x, {name: each.float() for name, each in noise.items()})
    with torch.autocast("cpu", dtype=dtype):
        half = _nats(model, x, {name: each.float() for name, each in noise.items()})
    assert full[0].min() > FLOAT16_MOST
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.5)


def test_activations_beyond_float16_are_right_in_the_precision_that_can_be_asked_for() -> None:
    """bf16 has the range of float32; float16, which has not, is refused with what is allowed."""
    with pytest.raises(ValidationError, match="Input should be 'float32', 'tf32' or 'bf16'"):
        config(PLAIN, dtype="float32", precision="float16")
    torch.manual_seed(0)
    model = config(PLAIN, dtype="float32", precision="bf16").model.build((1, 8, 8)).train()
    assert isinstance(model, Ladder)
    with torch.no_grad():
        model.encoder.stem.log_norm.add_(15.0)  # e^15 = 3e6 times as large
    seen: list[float] = []
    model.encoder.stem.register_forward_hook(
        lambda module, inputs, output: seen.append(float(output.detach().abs().max()))
    )
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.rand(6, 1, 8, 8, generator=generator), draw(model.noise(), 6, generator)
    rows = {name: each.float() for name, each in noise.items()}
    full = _nats(model, x, rows)
    with Precision(name="bf16").autocast():
        half = _nats(model, x, rows)
    assert min(seen) > FLOAT16_MOST
    torch.testing.assert_close(half[0], full[0], rtol=0.05, atol=0.5)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_ladders_loss_that_is_not_finite_is_named(precision: str, tmp_path: Path) -> None:
    config_ = config(PLAIN, dtype="float32", precision=precision, optimizer={"lr": 1e30})
    with pytest.raises(NonFiniteLoss) as caught:
        train(config_, LocalContext(tmp_path), dataset=generated(config_))
    assert (caught.value.term, caught.value.step) == ("loss", 2)
