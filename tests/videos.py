"""Videos for tests: a bright square that walks to and fro, and configurations of a small model of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split

SHAPE = (6, 1, 8, 8)
SIZES = (24, 8, 8)
MODEL: Mapping[str, Any] = {
    "kind": "video",
    "context": 2,
    "latent": 2,
    "hidden": 6,
    "frame_net": {"kind": "dcgan", "channels": [4, 6], "features": 5},
    "likelihood": {"kind": "gaussian", "fit": "mle", "link": "sigmoid"},
}


def videos(count: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Squares of two by two pixels, bytes [count, *shape]: each video begins at a place, and has a step, of its own."""
    time, _, height, width = shape
    x = torch.full((count, *shape), 20, dtype=torch.uint8)
    for video in range(count):
        for frame in range(time):
            top, left = (video + frame * (1 + video % 2)) % (height - 1), (3 * video + frame) % (width - 1)
            x[video, frame, :, top : top + 2, left : left + 2] = 100 + 150 * (video % 3) // 2
    return x


def dataset(shape: tuple[int, ...] = SHAPE, lengths: Tensor | None = None) -> Dataset:
    """Three splits of `SIZES`. lengths: of each, of videos that have their own."""
    own = [None] * 3 if lengths is None else lengths.split(list(SIZES))
    splits = zip(videos(sum(SIZES), shape).split(list(SIZES)), own, strict=True)
    train, val, test = (Split(x=x, lengths=each) for x, each in splits)
    return Dataset(name="squares", train=train, val=val, test=test, shape=shape)


def data(shape: tuple[int, ...] = SHAPE, *, lengths: bool = False) -> dict[str, Any]:
    """A set of one's own, as a configuration has it."""
    facts = {
        "shape": shape,
        "axes": ("time", "channel", "height", "width"),
        "support": "bytes",
        "sizes": SIZES,
        "lengths": lengths,
    }
    return {"name": "squares", "digest": "0" * 64, "facts": facts}


def config(model: Mapping[str, Any] = MODEL, **fields: Any) -> TrainConfig:
    """A run of twelve steps in float64."""
    given = {
        "data": data(),
        "model": dict(model),
        "steps": 12,
        "batch_size": 8,
        "log_every_steps": 1,
        "dtype": "float64",
        "optimizer": {"lr": 3e-3},
        "evaluation": {"every_epochs": 2, "batch_size": 5, "pictures": False},
        "checkpoint": {"every_steps": 5},
    }
    return TrainConfig.model_validate(given | fields)
