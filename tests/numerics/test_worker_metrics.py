"""Every number that a run logs is of the global batch: the same over 1, 2 and 3 real gloo processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests import catalogue, gangs
from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split
from vae_models.training.context import LocalContext
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.loop import Run, train

BATCH, STEPS = 7, 6  # neither 2 nor 3 divides the batch
TOLERANCE = 1e-9  # relative, in float64
CLOCK = "images_per_second"  # of the first worker's clock, and of no batch
POSTERIORS = {"ae": "delta", "rae": "delta", "rae-gp": "delta", "wae-mmd": "isotropic-fixed"}
DENSITIES = [name for name in catalogue.LIKELIHOODS if name != "bernoulli"]
NET = {"kind": "conv", "channels": [2, 3]}  # with batch norm


def cases() -> dict[str, TrainConfig]:
    """Each objective, control, likelihood, prior and posterior once, and batch norm under the gradient penalty."""
    found = {f"objective {name}": config(objective=name) for name in catalogue.OBJECTIVES}
    found |= {f"likelihood {name}": config(likelihood=name) for name in DENSITIES}
    found |= {f"prior {name}": config(prior=name) for name in catalogue.PRIORS}
    found |= {f"posterior {name}": config(posterior=name) for name in ("isotropic-trained", "isotropic-fixed")}
    for name, beta in catalogue.BETAS.items():
        gating = {"low": beta.low, "high": beta.high} if beta.kind == "log-uniform" else None
        betas = (0.5, 2.0) if gating else ()
        found[f"beta {name}"] = config(beta=beta, gating=gating, betas=betas)
    found["batch norm, gradient penalty"] = config(objective="rae-gp", backbone=NET)
    found["batch norm, multi-rate"] = config(
        beta=catalogue.BETAS["log-uniform"], backbone=NET, gating={"place": "batch-norm", "hidden": 3}
    )
    return found


def config(
    objective: str = "elbo",
    *,
    likelihood: str = "bernoulli",
    prior: str = "standard-normal",
    posterior: str | None = None,
    backbone: Any = None,
    gating: Any = None,
    betas: tuple[float, ...] = (),
    **fields: Any,
) -> TrainConfig:
    given, _ = catalogue.MODELS["/".join((catalogue.DEFAULT[0], "bernoulli", "standard-normal", "diagonal-normal"))]
    plain = given.model_dump() | {
        "likelihood": catalogue.LIKELIHOODS[likelihood],
        "prior": catalogue.PRIORS[prior],
        "posterior": catalogue.POSTERIORS[posterior or POSTERIORS.get(objective, "diagonal-normal")],
        "gating": gating,
    }
    if backbone is not None:
        plain["backbone"] = backbone
    model = type(given).model_validate(plain)
    return catalogue.train_config(
        objective, model, steps=STEPS, batch_size=BATCH, dtype="float64", log_every_steps=2,
        optimizer={"lr": 3e-3, "clip_norm": 5.0},
        evaluation={"every_epochs": 1, "batch_size": 4, "pictures": False, "betas": betas},
        **fields,
    )  # fmt: skip


def dataset() -> Dataset:
    images = torch.randint(0, 256, (34, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    train_split, val, test = (Split(x=part) for part in images.split([20, 9, 5]))
    return Dataset(name="digits", shape=(1, 8, 8), train=train_split, val=val, test=test)


def work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    results = {}
    for name, one in cases().items():
        context = LocalContext(folder / name.replace(" ", "-"), rank=rank, world_size=world)
        results[name] = dict(train(one, context, dataset=dataset()).metrics)
    (folder / f"failure-{rank}.txt").write_text(failure(LocalContext(folder / "failure", rank=rank, world_size=world)))
    (folder / f"results-{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


def failure(context: LocalContext) -> str:
    """Of a validation datum that is not finite, brought past the look at the data: in the third batch of four."""
    whole = dataset()
    images = whole.val.x / 255
    images[8, 0, 3, 3] = torch.nan
    data = replace(whole, val=Split(x=images), train=Split(x=whole.train.x / 255))
    try:
        Run(config(likelihood="gaussian"), context, data).run()
    except NonFiniteLoss as error:
        return str(error)
    return "none"


Lines = list[tuple[int, dict[str, float]]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    found = {}
    for world in (1, 2, 3):
        found[world] = tmp_path_factory.mktemp(f"world{world}")
        gangs.run(work, (world, found[world]), world)
    return found


def logged(folder: Path, name: str) -> Lines:
    lines = (folder / name.replace(" ", "-") / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["metrics"]) for line in map(json.loads, lines)]


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("name", cases())
def test_fault_09_every_logged_number_is_of_the_global_batch(runs: dict[int, Path], name: str, world: int) -> None:
    alone, together = logged(runs[1], name), logged(runs[world], name)
    assert [(step, list(metrics)) for step, metrics in alone] == [(step, list(metrics)) for step, metrics in together]
    assert {name for _, metrics in alone for name in metrics} >= {"train/loss", "train/beta", "train/grad_norm"}
    for (step, one), (_, other) in zip(alone, together, strict=True):
        for metric in one.keys() - {CLOCK}:
            assert other[metric] == pytest.approx(one[metric], rel=TOLERANCE, abs=1e-12), (step, metric)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_fault_14_every_worker_ends_by_the_same_evaluation(runs: dict[int, Path], world: int) -> None:
    """One that raised alone would leave the others waiting for it."""
    said = {(runs[world] / f"failure-{rank}.txt").read_text() for rank in range(world)}
    assert len(said) == 1
    assert said.pop().startswith("val/elbo is nan at step 3, whose batch of 1 has the validation data 8. ")


@pytest.mark.parametrize("world", [2, 3])
def test_fault_09_every_worker_knows_the_same_numbers(runs: dict[int, Path], world: int) -> None:
    first, *others = (json.loads((runs[world] / f"results-{rank}.json").read_text()) for rank in range(world))
    for other in others:
        for name, metrics in first.items():
            assert {key: other[name][key] for key in metrics if key != CLOCK} == {
                key: value for key, value in metrics.items() if key != CLOCK
            }, name
