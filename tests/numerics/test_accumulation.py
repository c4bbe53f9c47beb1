"""A batch in several passes is the batch in one; cells that are computed again give the same gradients to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from tests import catalogue
from tests.numerics.test_lanes import assert_same, curve
from vae_models.config.shape import reason_against
from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split
from vae_models.nn.recompute import recompute
from vae_models.objectives.specs import LadderElboConfig, ObjectiveConfig
from vae_models.parts import PartError
from vae_models.protocols import HasCells
from vae_models.strict import parts_within
from vae_models.topologies.ladder.specs import NvaeConfig
from vae_models.topologies.specs import TopologySpec
from vae_models.topologies.text.specs import TextConfig
from vae_models.topologies.vae.specs import GatingConfig, ModelConfig
from vae_models.training import accumulation, checkpoint, promises
from vae_models.training.context import LocalContext
from vae_models.training.lanes import Widths, train_pack
from vae_models.training.loop import train
from vae_models.training.step import StepModule

BATCH = 7


@dataclass(frozen=True)
class System:
    model: TopologySpec
    shape: tuple[int, ...]
    objective: ObjectiveConfig

    def couples(self) -> bool:
        """Return whether one of its parts says that it couples the data of a batch."""
        parts = (part for root in (self.model, self.objective) for part in parts_within(root))
        return any(part.against_micro_batch() is not None for part in parts)


TEXT = TextConfig(latent=3, embedding=8, hidden=12, dropout=0.25)
SYSTEMS: Mapping[str, System] = {
    **{
        f"{objective}/{name}": System(model, shape, catalogue.OBJECTIVES[objective])
        for name, (model, shape) in catalogue.MODELS.items()
        if max(shape) <= 28
        for objective in (catalogue.OBJECTIVES if name.endswith("gaussian/standard-normal/delta") else ("elbo", "ae"))
        if catalogue.goes_together(objective, name)
    },
    **{
        objective: System(catalogue.MODELS[name][0], catalogue.MODELS[name][1], catalogue.OBJECTIVES[objective])
        for objective in catalogue.OBJECTIVES
        for name in ("mlp-relu/bernoulli/standard-normal/diagonal-normal", "mlp-relu/bernoulli/standard-normal/delta")
        if catalogue.goes_together(objective, name)
    },
    **{
        f"gated/{name}": System(
            ModelConfig(latent=3, backbone=backbone, gating=gating), shape, catalogue.OBJECTIVES["elbo"]
        )
        for name, (gating, backbone, shape) in catalogue.GATINGS.items()
    },
    "text": System(
        TEXT.model_copy(update={"likelihood": TEXT.likelihood.model_copy(update={"vocabulary": 20})}),
        (6,),
        catalogue.OBJECTIVES["elbo"],
    ),
}


def gradients(system: System, parts: tuple[accumulation.Pass, ...]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Return the loss, its terms and all gradients in one vector, float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = system.model.build(system.shape).double().train()
    objective = system.objective.build(100, system.shape, system.model.dimensions())
    generator = torch.Generator().manual_seed(1)
    text = isinstance(system.model, TextConfig)
    levels = 20 if text else system.model.levels() or 256
    x = torch.randint(0, levels, (BATCH, *system.shape), generator=generator)
    mask = (torch.arange(system.shape[0]) < torch.randint(3, 7, (BATCH, 1), generator=generator)) if text else None
    noise = catalogue.draw({**model.noise(objective.samples), **objective.noise()}, BATCH, generator)  # type: ignore[operator]
    beta = torch.linspace(0.1, 4, BATCH).double() if system.model.beta_range() else torch.tensor(0.7).double()
    module = StepModule(model, objective).double()
    loss, terms = accumulation.backward(module, parts, x if text else x.double() / (levels - 1), noise, beta, mask)
    grads = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return loss, dict(terms), torch.cat(grads)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_adds_up_or_says_why_not(name: str) -> None:
    """7 data by 3: the same loss, terms and gradients to 1e-12; of what couples a batch, others, so it is refused."""
    system = SYSTEMS[name]
    loss, terms, grads = gradients(system, accumulation.passes(BATCH, None))
    other_loss, other_terms, other_grads = gradients(system, accumulation.passes(BATCH, 3))
    apart = float((grads - other_grads).norm() / grads.norm())
    if system.couples():
        assert apart > 1e-6
        return
    assert apart < 1e-12
    assert float(other_loss) == pytest.approx(float(loss), rel=1e-12)
    assert {key: float(value) for key, value in other_terms.items()} == pytest.approx(
        {key: float(value) for key, value in terms.items()}, rel=1e-11, abs=1e-12
    )


@given(batch=st.integers(1, 200), workers=st.integers(1, 9), micro=st.integers(1, 250))
@settings(max_examples=200)
def test_passes_cover_every_workers_rows_and_are_no_larger_than_asked(batch: int, workers: int, micro: int) -> None:
    workers = min(workers, batch)
    of_workers = [accumulation.passes(batch, micro, rank, workers) for rank in range(workers)]
    assert len({len(parts) for parts in of_workers}) == 1  # all wait for each other as often
    assert sum(part.share for part in of_workers[0]) == pytest.approx(1)
    taken = [part.rows.stop - part.rows.start for parts in of_workers for part in parts]
    assert sum(taken) == batch
    assert max(taken) <= micro
    for place in range(len(of_workers[0])):
        together = sum(parts[place].rows.stop - parts[place].rows.start for parts in of_workers)
        assert {parts[place].share for parts in of_workers} == {together / batch}
    for parts in of_workers:
        assert [part.rows.start for part in parts[1:]] == [part.rows.stop for part in parts[:-1]]


# --- a run ------------------------------------------------------------------------------------------------------------


def data() -> Dataset:
    images = torch.randint(0, 256, (40, 1, 2, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    parts = [Split(x=part) for part in images.split([20, 10, 10])]
    return Dataset(name="mnist", train=parts[0], val=parts[1], test=parts[2], shape=(1, 2, 3))


def config(**fields: Any) -> TrainConfig:
    fields = {
        "dtype": "float64",
        "steps": 30,
        "micro_batch": 4,
        "beta": {"kind": "geco", "kappa": 0.3},
        "optimizer": {"lr": 3e-3, "clip_norm": 1.0},
        "log_every_steps": 5,
        "evaluation": {"every_epochs": 5, "pictures": False},
        "checkpoint": {"every_steps": 100},
    } | fields
    model = catalogue.MODELS["mlp-relu/gaussian/standard-normal/diagonal-normal"][0]
    return catalogue.train_config("elbo", model, data="mnist", **fields)


def test_a_run_has_the_curve_of_whole_batches_and_resumes_to_the_bit(tmp_path: Path) -> None:
    """Clipping, which reads the gradient's norm, and a controller, which reads the terms, included."""
    train(config(micro_batch=None), LocalContext(tmp_path / "whole"), dataset=data())
    train(config(), LocalContext(tmp_path / "parts"), dataset=data())
    assert_same(curve(tmp_path / "parts"), curve(tmp_path / "whole"))
    asked = iter(range(1000))
    stopping = LocalContext(tmp_path / "resumed", stop=lambda: next(asked) >= 16)
    assert train(config(), stopping, dataset=data(), poll_seconds=0).stopped
    train(config(), LocalContext(tmp_path / "resumed"), dataset=data())
    last = "checkpoints/step-0000000030"
    mine, theirs = (checkpoint.verify(tmp_path / name / last).files for name in ("resumed", "parts"))
    assert {name: file for name, file in mine.items() if "safetensors" in name} == {
        name: file for name, file in theirs.items() if "safetensors" in name
    }


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)])
def test_lanes_take_their_batches_in_parts_too(seeds: tuple[int, int], tmp_path: Path) -> None:
    configs = [config(optimizer={"lr": lr}, seed=seed) for lr, seed in zip((1e-3, 3e-3), seeds, strict=True)]
    folders, widths = [LocalContext(tmp_path / str(lane)) for lane in range(2)], Widths()
    train_pack(configs, folders, dataset=data(), width=2, widths=widths)
    assert not widths.reasons
    for lane, each in enumerate(configs):
        train(each, LocalContext(tmp_path / f"alone-{lane}"), dataset=data())
        assert_same(curve(tmp_path / str(lane)), curve(tmp_path / f"alone-{lane}"))


def test_what_couples_a_batch_is_refused_with_the_reason() -> None:
    conv = {"latent": 3, "backbone": {"kind": "conv", "channels": [2, 3]}}
    base = config().model_dump(exclude={"model"})
    for fields, said in (
        ({"model": conv}, "the conv backbone's batch norm takes the statistics of the whole batch"),
        ({"model": {"likelihood": {"kind": "gaussian", "fit": "mle"}}}, "fits its variance to the whole batch"),
        ({"model": {}, "objective": {"kind": "tc"}}, "objective tc compares the data of the whole batch"),
        ({"model": {}, "recompute": True}, "recompute is of models with cells, nvae, and vae has none"),
    ):
        with pytest.raises(ValidationError, match=said):
            TrainConfig.model_validate(base | fields)
    TrainConfig.model_validate(base | {"model": conv, "micro_batch": 6})  # no more than one pass of a batch of 6


def test_a_part_of_another_package_that_couples_a_batch_is_found_out() -> None:
    """Its specification says nothing, so it is tried before the first step."""
    said = config(micro_batch=2)
    coupling = catalogue.LIKELIHOODS["gaussian-mle-iso"]
    model = said.model.model_copy(update={"likelihood": coupling}).build((1, 2, 3)).double().train()
    generator = torch.Generator().manual_seed(0)

    def draw(specs: Mapping[str, Any]) -> dict[str, Tensor]:
        return catalogue.draw(specs, promises.DATA, generator.manual_seed(0))

    objective, controller = said.objective.build(20, (1, 2, 3), 3), said.beta.build(3.0)
    x = draw(said.model.build((1, 2, 3)).noise())["z"].unsqueeze(1)[:, :, None, :].expand(-1, -1, 2, -1)  # type: ignore[operator]
    with pytest.raises(PartError, match="a part couples the data of a batch"):
        promises.check(said, model, objective, controller, x=x, draw=draw)
    fine = said.model.build((1, 2, 3)).double().train()
    promises.check(said, fine, objective, controller, x=x, draw=draw)


# --- activations that are computed again ------------------------------------------------------------------------------

LADDER = NvaeConfig(size=(9, 6), channels=4, latent=2, groups=2, blocks=1, block_cells=1, decoder_cells=1)
LADDERS = {"plain": LADDER, "swish": LADDER.model_copy(update={"body": "swish"}), "gated": LADDER.model_copy(
    update={"gating": GatingConfig()}
)}  # fmt: skip


def passed(config: NvaeConfig, *, again: bool, precision: str = "float32") -> tuple[dict[str, Tensor], int]:
    """Return gradients and buffers after a step, and the bytes that were kept for the backward pass."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = config.build((1, 9, 6)).train()
    if again:
        assert isinstance(model, HasCells)
        recompute(model.cells())
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(6, 1, 9, 6, generator=generator).round()
    noise = catalogue.draw(model.noise(), 6, generator, torch.float32)  # type: ignore[operator]
    beta = torch.linspace(0.1, 4, 6) if config.beta_range() else torch.ones(())
    module = StepModule(model, LadderElboConfig().build(100, (1, 9, 6), config.dimensions()))
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = module(x, noise, beta)
    loss.backward()
    result = {f"slope/{name}": value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {**result, **dict(model.named_buffers()), "loss": loss.detach()}, sum(kept.values())


@pytest.mark.parametrize("name", LADDERS)
def test_cells_that_are_computed_again_give_the_same_bits_for_less_memory(name: str) -> None:
    """Gradients, and the running statistics of batch norms, which move once; gates read the beta of the pass."""
    (kept, bytes_kept), (again, bytes_again) = (passed(LADDERS[name], again=again) for again in (False, True))
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[key], again[key]) for key in kept)
    assert any(name.endswith("num_batches_tracked") and int(again[name]) == 1 for name in again)
    assert bytes_again < 0.6 * bytes_kept


def test_a_run_computes_again_what_it_is_told_to(tmp_path: Path) -> None:
    """The same weights, to the bit; lanes are then trained in turn, and say why."""
    images = torch.randint(0, 256, (30, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    parts = [Split(x=part) for part in images.split([10, 10, 10])]
    dataset = Dataset(name="digits", train=parts[0], val=parts[1], test=parts[2], shape=(1, 8, 8))
    sums = []
    for again in (False, True):
        fields = {"data": {"name": "digits", "binarize": "threshold"}, "batch_size": 4, "steps": 4, "recompute": again}
        run = TrainConfig.model_validate(
            fields | {"model": LADDER.model_dump() | {"spectrum": False}, "evaluation": {"pictures": False}}
        )
        assert (reason_against(run) is not None) == again
        train(run, LocalContext(tmp_path / str(again)), dataset=dataset)
        sums.append(checkpoint.verify(tmp_path / str(again) / "checkpoints/step-0000000004").files)
    assert sums[0]["model.safetensors"] == sums[1]["model.safetensors"]
    assert sums[0]["training.safetensors"] == sums[1]["training.safetensors"]
