"""Trained models in folders, of each kind that can be loaded. Untrained weights, drawn with seed 0."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from service.kinds.train.spec import resolve
from service.mlmodel import examples, mlmodel
from service.queue.jobs import Checkpoint, Job, JobState
from vae_models.config.train import TrainConfig
from vae_models.recipes import catalogue
from vae_models.training import checkpoint as checkpoints

DIGITS = "digits/beta-vae-mlp"
STEP = 7
METRICS = {"val/elbo": -12.5}


def config_of(recipe: str = DIGITS, **model: Any) -> TrainConfig:
    """A recipe's configuration. model: other values of its model's fields."""
    config = catalogue()[recipe].build()
    return config.model_copy(update={"model": config.model.model_copy(update=model)})


def checkpoint(folder: Path, config: TrainConfig, *, step: int = STEP, metrics: dict[str, float] = METRICS) -> Path:
    """A checkpoint as training writes it."""
    shape = config.data.facts.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = config.model.build(shape).to(getattr(torch, config.dtype)).state_dict()
    state = {"data_shape": shape}
    checkpoints.write(folder, step=step, config=config, model=weights, training={}, state=state, metrics=metrics)
    return folder


def run(folder: Path, config: TrainConfig) -> Path:
    """A run's folder with one checkpoint, as `vaesvc run` keeps it."""
    checkpoint(folder / "checkpoints" / f"step-{STEP:010d}", config)
    return folder


def pulled(folder: Path, config: TrainConfig) -> Path:
    """A model's folder as the service stores it and `vaesvc pull` leaves it, without its signature."""
    checkpoint(folder, config)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    spec = resolve(DIGITS).model_dump(mode="json") | {"train": config.model_dump(mode="json")}
    job = Job(
        id="j-1", name="n", kind="train", state=JobState.SUCCEEDED, priority=0, owner="ann", spec=spec, resources={}
    )
    made = Checkpoint(attempt=1, step=STEP, uri="s3://bucket/checkpoints/j-1/7", manifest_sha256="0" * 64, bytes=1)
    shape = config.data.facts.shape
    described = mlmodel(job, made, manifest["files"]["model.safetensors"]["bytes"], shape, config.data, config.dtype)
    own = examples(shape) | {"MLmodel": described}
    for name, text in own.items():
        (folder / name).write_bytes(text)
    kept = {name: manifest["files"][name] for name in ("model.safetensors", "config.json")}
    kept |= {name: {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)} for name, text in own.items()}
    for name in ("training.safetensors", "state.json"):
        (folder / name).unlink()
    written = {"format": 1, "step": STEP, "data_shape": shape, "files": kept, "metrics": METRICS}
    (folder / "manifest.json").write_text(json.dumps(written))
    return folder


def copied(folder: Path, to: Path) -> Path:
    """The same folder elsewhere, to be damaged."""
    return Path(shutil.copytree(folder, to))
