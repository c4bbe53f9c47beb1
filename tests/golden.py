"""What every recipe computes, as digests: losses and weights of its first steps, and an evaluation, on generated data.

    python -m tests.golden [--dtype float64] [--workers 2] [RECIPE ...] > digests.json
    python -m tests.golden --compare before.json after.json

A change that says that it changes no mathematics prints the same before and after it, on one machine: bits depend on
the processor and on the build of torch, so digests of two machines are not compared. Every recipe has the networks,
objective and beta that it has; the batch is small, and the data are drawn from the shape and support of its data set.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests import gangs
from vae_models import data
from vae_models.config.train import TrainConfig
from vae_models.recipes import catalogue
from vae_models.training.context import LocalContext
from vae_models.training.evaluation import evaluate
from vae_models.training.loop import Run

STEPS, BATCH = 3, 4
SIZES = (24, 8, 8)  # of the generated splits


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("recipes", nargs="*", help="default: all")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--compare", nargs=2, metavar=("BEFORE", "AFTER"), type=Path)
    options = parser.parse_args(arguments)
    if options.compare:
        return _compare(*(json.loads(path.read_text()) for path in options.compare))
    names = options.recipes or sorted(catalogue())
    json.dump(digests(names, options.dtype, options.workers), sys.stdout, indent=1)
    return 0


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
        "weights": _sha256(sorted(run.model.state_dict().items())),
        "evaluation": hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest(),
        "loss": repr(float(losses[-1])),
    }


def generated(config: TrainConfig) -> data.Dataset:
    """Data of the shape and support of the config's set: bytes, the bytes 0 and 255, or reals."""
    facts = config.data.facts
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand((sum(SIZES), *facts.shape), generator=generator)
    if config.data.reals:
        images = (2 * uniform - 0.5).float()
    elif facts.support == "bits":
        images = (uniform > 0.6).to(torch.uint8) * 255
    else:
        images = (uniform * 256).to(torch.uint8)
    train, val, test = (data.Split(x=part) for part in images.split(list(SIZES)))
    return data.Dataset(name=config.data.name, train=train, val=val, test=test, shape=facts.shape)


def _sha256(tensors: Iterable[tuple[Any, Tensor]]) -> str:
    total = hashlib.sha256()
    for name, tensor in tensors:
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.contiguous().cpu().numpy().tobytes())
    return total.hexdigest()


def _compare(before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]) -> int:
    """Print which recipes differ, and in what; 1 if there are any."""
    lines = [f"{name}: gone" for name in before if name not in after]
    lines += [f"{name}: new" for name in after if name not in before]
    for name in sorted(before.keys() & after.keys()):
        different = [key for key in before[name] if before[name][key] != after[name][key]]
        if different:
            lines.append(f"{name}: {', '.join(different)} ({before[name]['loss']} -> {after[name]['loss']})")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.write(f"{len(before.keys() & after.keys())} recipes compared, {len(lines)} differ\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
