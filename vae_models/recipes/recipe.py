"""What a recipe is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vae_models.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One published (or plainly useful) configuration by name.

    name:    `<data>/<system>[-<backbone>]`
    paper:   where the system is from, in short
    section: the section, table or appendix that the numbers are from
    data:    what it needs, as a person would say it
    summary: one line on what it trains
    build:   returns the configuration; its docstring says which numbers the source leaves open
    """

    name: str
    paper: str
    section: str
    data: str
    summary: str
    build: Callable[[], TrainConfig]
