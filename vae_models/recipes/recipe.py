"""What a recipe is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.data.sources import SOURCES


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One published (or plainly useful) configuration by name.

    name:    `<data>/<system>[-<backbone>]`
    paper:   where the configuration is from, in short; "ours" where no paper has it
    section: the section, table or appendix that the numbers are from; of ours, the one they follow: "after ..."
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


def described(config: DataConfig) -> str:
    """Return a description of the data that a config needs."""
    text = str(getattr(SOURCES.get(config.name), "title", "")) or config.name
    if config.binarize == "dynamic":
        text += ", binarized anew at every step"
    noise = config.noise.text()
    return f"{text}, {noise}" if noise else text


def recipe(name: str, paper: str, section: str, summary: str, config: Callable[[], TrainConfig]) -> Recipe:
    """Return the recipe, with its data described from its configuration."""
    return Recipe(name=name, paper=paper, section=section, data=described(config().data), summary=summary, build=config)


def ours(name: str, paper: str, section: str, summary: str, config: Callable[[], TrainConfig]) -> Recipe:
    """Return a recipe with a configuration that the paper does not have, citing the section that it follows."""
    return recipe(name, "ours", f"after {paper}, {section}", summary, config)
