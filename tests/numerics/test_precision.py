"""Networks in bfloat16: what stays float32, how far losses are from float32's, the same lanes and the same resume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tests import catalogue
from vae_models import precision as precisions
from vae_models.config.shape import shape_of, stack_of
from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split
from vae_models.objectives.specs import RaeConfig
from vae_models.posteriors.specs import DeltaConfig
from vae_models.precision import Precision, keep_full
from vae_models.recipes import catalogue as recipes
from vae_models.topologies.ladder.specs import NvaeConfig
from vae_models.topologies.specs import TopologySpec
from vae_models.topologies.text.specs import TextConfig
from vae_models.topologies.vae.specs import ModelConfig
from vae_models.training import checkpoint
from vae_models.training.context import LocalContext
from vae_models.training.lanes import Widths, train_pack
from vae_models.training.loop import train
from vae_models.training.step import StepModule

ROUNDING = 2.0**-8  # of a bfloat16
BF16, FLOAT32 = Precision(name="bf16"), Precision()

NVAE = NvaeConfig(size=(9, 6), channels=4, latent=2, groups=2, blocks=1, block_cells=1, decoder_cells=1)
TEXT = TextConfig(latent=3, embedding=8, hidden=12, dropout=0.25)
SYSTEMS: Mapping[str, tuple[TopologySpec, tuple[int, ...]]] = {
    **{name: system for name, system in catalogue.MODELS.items() if max(system[1]) <= 28},
    **{
        f"gated/{name}": (ModelConfig(latent=3, backbone=backbone, gating=gating), shape)
        for name, (gating, backbone, shape) in catalogue.GATINGS.items()
    },
    "ladder": (NVAE, (1, 9, 6)),
    "text": (TEXT.model_copy(update={"likelihood": TEXT.likelihood.model_copy(update={"vocabulary": 20})}), (7,)),
}


def built(config: TopologySpec, shape: tuple[int, ...]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return config.build(shape)


def given(model: nn.Module, config: TopologySpec, shape: tuple[int, ...]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return 16 data, and the noise of a pass over them."""
    generator = torch.Generator().manual_seed(1)
    levels = 20 if isinstance(config, TextConfig) else config.levels() or 256
    x = torch.randint(0, levels, (16, *shape), generator=generator)
    noise = catalogue.draw(model.noise(), 16, generator, torch.float32)  # type: ignore[operator]
    return (x if isinstance(config, TextConfig) else x.float() / (levels - 1)), noise


@pytest.mark.parametrize("system", SYSTEMS)
def test_losses_are_float32s_but_for_bfloat16s_rounding(system: str) -> None:
    """In every system, at the weights that it starts with; every parameter's gradient is float32 and finite."""
    config, shape = SYSTEMS[system]
    objective = catalogue.OBJECTIVES["elbo" if config.bound else "ae"].build(100, shape, config.dimensions())
    beta = torch.linspace(0.1, 4, 16) if config.beta_range() else torch.ones(())
    losses, dtypes = {}, list[torch.dtype]()
    for precision in (FLOAT32, BF16):
        model = built(config, shape).train()
        for module in model.modules():
            if precision is BF16 and isinstance(module, nn.Linear | nn.Conv2d):
                module.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
        x, noise = given(model, config, shape)
        loss, terms = StepModule(model, objective, precision)(x, noise, beta)
        loss.backward()
        assert {loss.dtype, *(term.dtype for term in terms.values())} == {torch.float32}
        for parameter in model.parameters():
            assert parameter.grad is None or bool(parameter.grad.isfinite().all())
            assert parameter.grad is None or parameter.grad.dtype == torch.float32
        losses[precision.name] = float(loss.detach())
    assert torch.bfloat16 in dtypes
    assert losses["bf16"] != losses["float32"]
    assert abs(losses["bf16"] - losses["float32"]) <= ROUNDING * abs(losses["float32"])


def test_what_a_network_returns_is_full_before_a_density_is_computed_of_it() -> None:
    model = built(*SYSTEMS["mlp-relu/gaussian/standard-normal/diagonal-normal"])
    x, noise = given(model, *SYSTEMS["mlp-relu/gaussian/standard-normal/diagonal-normal"])
    with BF16.autocast():
        trace = model(x, noise)
    latent = trace.latents[0]
    for value in (trace.decoded, trace.mean, trace.distortion, latent.sample, latent.log_std, latent.rate):
        assert value.dtype == torch.float32


def test_a_convolution_of_one_pixel_is_computed_in_float32() -> None:
    """Its weights' gradient in bfloat16 would be what lay in memory, where the kernel meets padding alone."""
    for layer in (nn.Conv2d(64, 96, 5, stride=2, padding=2), nn.ConvTranspose2d(64, 96, 5, stride=2, padding=2)):
        keep_full(layer)
        for side, expected in ((1, torch.float32), (4, torch.bfloat16)):
            x = torch.randn(2, 64, side, side)
            with BF16.autocast():
                assert layer(x).dtype == expected
                assert torch.is_autocast_enabled("cpu")
        with BF16.autocast(), pytest.raises(RuntimeError):
            layer(torch.randn(2, 3, 1, 1))  # of other channels
        full = torch.autograd.grad(layer(x := torch.randn(2, 64, 1, 1)).square().sum(), layer.weight)[0]
        with BF16.autocast():
            (mine,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
        assert torch.equal(mine, full)


@pytest.mark.parametrize("there", [True, False])
def test_an_lstm_is_computed_in_float32_where_the_cpu_has_none_in_bfloat16(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the state that it is given, its gradients too: to the bit what it is without autocast."""
    if there and not precisions._has_lstm():
        pytest.skip("this CPU has no LSTM in bfloat16")
    monkeypatch.setattr(precisions, "_has_lstm", lambda: there)
    layer = nn.LSTM(3, 4, bias=False, batch_first=True)
    keep_full(layer)
    x, state = torch.randn(2, 5, 3), (torch.randn(1, 2, 4), torch.randn(1, 2, 4))

    def computed() -> tuple[Tensor, Tensor]:
        output = layer(x, state)[0]
        return output, torch.autograd.grad(output.square().sum(), layer.weight_hh_l0)[0]

    full = computed()
    with BF16.autocast():
        mine = computed()
        assert torch.is_autocast_enabled("cpu")
    assert mine[0].dtype == (torch.bfloat16 if there else torch.float32)
    assert there or all(torch.equal(one, other) for one, other in zip(mine, full, strict=True))


def test_products_are_tf32_only_where_asked_for_and_only_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU: torch's settings, which need no GPU to be read."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for name, expected in (("float32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")):
        with Precision(name=name, device_type="cuda").products():  # type: ignore[arg-type]
            assert [backend.fp32_precision for backend in backends] == [expected] * 3
        assert [backend.fp32_precision for backend in backends] == before
    with Precision(name="tf32", device_type="cpu").products():
        assert [backend.fp32_precision for backend in backends] == before


# --- a run ------------------------------------------------------------------------------------------------------------


def data() -> Dataset:
    coarse = torch.randint(0, 256, (60, 1, 7, 7), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)
    parts = [Split(x=part) for part in images.split([40, 10, 10])]
    return Dataset(name="mnist", train=parts[0], val=parts[1], test=parts[2], shape=(1, 28, 28))


def config(**fields: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "data": {"name": "mnist", "binarize": "threshold"},
            "model": {"latent": 4, "backbone": {"kind": "conv", "channels": [4, 4, 6, 8]}},
            "batch_size": 8,
            "steps": 30,
            "log_every_steps": 5,
            "precision": "bf16",
            "evaluation": {"every_epochs": 3, "pictures": False},
            "checkpoint": {"every_steps": 7},
        }
        | fields
    )


def curve(folder: Path, name: str) -> list[float]:
    lines = (json.loads(line)["metrics"] for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [metrics[name] for metrics in lines if name in metrics]


def weights(folder: Path) -> str:
    last = max((folder / "checkpoints").glob("step-*"))
    return "".join(file.sha256 for name, file in sorted(checkpoint.verify(last).files.items()) if "safetensors" in name)


def test_a_run_stays_near_float32s_and_resumes_to_the_bit(tmp_path: Path) -> None:
    """30 steps of a CNN with batch norm: the curves of training and validation are within 1% of float32's."""
    train(config(), LocalContext(tmp_path / "bf16"), dataset=data())
    train(config(precision="float32"), LocalContext(tmp_path / "float32"), dataset=data())
    for name in ("train/loss", "val/elbo"):
        mine, theirs = curve(tmp_path / "bf16", name), curve(tmp_path / "float32", name)
        assert mine != theirs
        assert mine == pytest.approx(theirs, rel=1e-2)
    asked = iter(range(1000))
    stopping = LocalContext(tmp_path / "resumed", stop=lambda: next(asked) >= 16)
    assert train(config(), stopping, dataset=data(), poll_seconds=0).stopped
    assert not train(config(), LocalContext(tmp_path / "resumed"), dataset=data()).stopped
    assert weights(tmp_path / "resumed") == weights(tmp_path / "bf16")
    saved = checkpoint.read(max((tmp_path / "bf16" / "checkpoints").glob("step-*"))).model.values()
    assert {value.dtype for value in saved if value.is_floating_point()} == {torch.float32}


def test_lanes_have_the_curves_of_the_configurations_alone(tmp_path: Path) -> None:
    """Fused: convolutions, transposed ones and batch norm are mapped in bfloat16."""
    configs = [config(optimizer={"lr": lr}, seed=seed, steps=20) for lr, seed in ((1e-3, 0), (3e-3, 1))]
    widths = Widths()
    folders = [LocalContext(tmp_path / str(lane)) for lane in range(2)]
    train_pack(configs, folders, dataset=data(), width=2, widths=widths)
    assert not widths.reasons
    for lane, each in enumerate(configs):
        train(each, LocalContext(tmp_path / f"alone-{lane}"), dataset=data())
        assert curve(tmp_path / str(lane), "train/loss") == pytest.approx(
            curve(tmp_path / f"alone-{lane}", "train/loss"), rel=ROUNDING
        )


# --- specifications ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_computed_in_the_precision_is_refused_with_the_reason() -> None:
    with pytest.raises(ValidationError, match="dtype float64 asks for more: set precision to float32, or dtype to"):
        config(dtype="float64")
    model = ModelConfig(posterior=DeltaConfig())
    penalty = RaeConfig(regularizer="gradient")
    metric = {"metric": "val/distortion", "mode": "min"}
    with pytest.raises(ValidationError, match=r"bf16: objective rae .* of which bfloat16 keeps two digits"):
        config(model=model, objective=penalty, checkpoint=metric)
    config(model=model, objective=penalty, checkpoint=metric, precision="tf32")
    assert "does not say that it computes densities in float32" in str(TopologySpec.against_bf16(NVAE))


def test_every_recipe_but_gradient_penalties_may_be_trained_in_bf16() -> None:
    for name, recipe in recipes().items():
        reduced = recipe.build().model_dump() | {"precision": "bf16"}
        if name.endswith("rae-gp"):
            with pytest.raises(ValidationError, match="regularizer gradient"):
                TrainConfig.model_validate(reduced)
        else:
            TrainConfig.model_validate(reduced)


def test_precision_is_of_the_run_and_not_of_the_weights() -> None:
    reduced, default = config(), config(precision="float32")
    assert shape_of(reduced) == shape_of(default)
    assert stack_of(reduced) != stack_of(default)
    assert "precision" not in default.identity()  # studies of before keep their trials' names
    assert "bf16" in reduced.identity()
