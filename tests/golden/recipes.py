"""Digests of the losses and weights of the first steps of recipes, and of an evaluation, on generated data."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests import gangs
from vae_models import data
from vae_models.config.train import TrainConfig
from vae_models.data.spec import Support
from vae_models.recipes import catalogue
from vae_models.training.context import LocalContext
from vae_models.training.evaluation import evaluate
from vae_models.training.loop import Run

STEPS, BATCH = 3, 4
SIZES = (24, 8, 8)  # of the generated splits


def digests(names: Iterable[str], dtype: str, workers: int) -> dict[str, dict[str, str]]:
    """{recipe: {"losses", "weights", "evaluation": SHA-256, "loss": the last step's, to read}}."""
    with tempfile.TemporaryDirectory(prefix="vaesvc-golden-") as folder:
        if workers == 1:
            _some(0, 1, list(names), dtype, folder)
        else:
            gangs.run(_one_of_many, (workers, list(names), dtype, folder), workers)
        digested: dict[str, dict[str, str]] = json.loads(Path(folder, "digests.json").read_text())
    return digested


def _one_of_many(rank: int, workers: int, names: list[str], dtype: str, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=workers)
    try:
        _some(rank, workers, names, dtype, folder)
    finally:
        torch.distributed.destroy_process_group()


def _some(rank: int, workers: int, names: list[str], dtype: str, folder: str) -> None:
    torch.set_num_threads(1)
    found = {}
    for name in names:
        context = LocalContext(Path(folder, name.replace("/", "-"), str(rank)), rank=rank, world_size=workers)
        found[name] = _digest(_brief(catalogue()[name].build(), dtype), context)
        sys.stderr.write(f"{name}: {found[name]['loss']}\n" if rank == 0 else "")
    if rank == 0:
        Path(folder, "digests.json").write_text(json.dumps(found))


def _brief(config: TrainConfig, dtype: str) -> TrainConfig:
    evaluation = config.evaluation.model_copy(update={"batch_size": BATCH, "limit": None, "pictures": False})
    changes = {"batch_size": BATCH, "epochs": None, "steps": STEPS, "dtype": dtype, "evaluation": evaluation}
    return config.model_copy(update=changes)


def _digest(config: TrainConfig, context: LocalContext) -> dict[str, str]:
    run = Run(config, context, generated(config))
    run.model.train()
    losses = []
    for _ in range(STEPS):
        x, noise = run.batch()
        loss, terms = run.module(x, noise, run.control_beta(noise))
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        run.apply(loss, terms)
        losses.append(loss.detach())
    metrics = evaluate(run.model, run.val_data, config.evaluation, name="val", source=run.noise)
    return {
        "losses": _sha256(enumerate(losses)),
        "weights": _sha256(
            (name, _as_before(config, name, value)) for name, value in sorted(run.model.state_dict().items())
        ),
        "evaluation": hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest(),
        "loss": repr(float(losses[-1])),
    }


def _as_before(config: TrainConfig, name: str, value: Tensor) -> Tensor:
    """A digest is of the shape, too, and joint angles were images of one row: the same numbers in the same order."""
    if config.data.name == "cmu-motion" and name.endswith("pseudo_inputs"):
        return value.reshape(-1, 1, 1, value.shape[-1])
    return value


def generated(config: TrainConfig) -> data.Dataset:
    """Return data of the shape and support of the config's set."""
    facts = config.data.facts
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand((sum(SIZES), *facts.shape), generator=generator)
    values = _values(uniform, "reals" if config.data.reals else facts.support, facts.vocabulary)
    train, val, test = (data.Split(x=part) for part in values.split(list(SIZES)))
    return data.Dataset(name=config.data.name, train=train, val=val, test=test, shape=facts.shape)


def _values(uniform: Tensor, support: Support, vocabulary: int | None) -> Tensor:
    match support:
        case "reals":
            return (2 * uniform - 0.5).float()
        case "unit":
            return uniform.float()
        case "bits":
            return (uniform > 0.6).to(torch.uint8) * 255
        case "bytes":
            return (uniform * 256).to(torch.uint8)
        case "tokens":
            return (uniform * (vocabulary or 1)).to(torch.int32)


def _sha256(tensors: Iterable[tuple[Any, Tensor]]) -> str:
    total = hashlib.sha256()
    for name, tensor in tensors:
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.contiguous().cpu().numpy().tobytes())
    return total.hexdigest()
