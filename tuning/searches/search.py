"""What a published search is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tuning.study import StudyConfig
from vae_models.config.train import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Search:
    """name: `searches/<data>/<system>[-<backbone>]`; paper, section: its source; summary: one line on what it tries."""

    name: str
    paper: str
    section: str
    summary: str
    build: Callable[[], StudyConfig]


def recipe(name: str) -> TrainConfig:
    """Return the configuration of a recipe."""
    from vae_models.recipes import catalogue

    return catalogue()[name].build()
