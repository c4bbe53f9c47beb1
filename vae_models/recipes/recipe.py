"""What a recipe is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig


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


# what the data sets are, for people
DATA: Mapping[str, str] = MappingProxyType(
    {
        "digits": "scikit-learn digits (8x8, carried by the package)",
        "mnist": "MNIST (28x28)",
        "fashion-mnist": "Fashion-MNIST (28x28)",
        "binarized-mnist": "static binarized MNIST (28x28)",
        "omniglot": "Omniglot (28x28)",
        "pendulum": "pendulum (16x16, rendered by rule)",
        "cifar10": "CIFAR-10 (3x32x32)",
        "svhn": "SVHN (3x32x32)",
        "svhn-28": "SVHN cropped to 3x28x28",
        "chairs": "rendered chairs (64x64, grey)",
        "faces": "renders of the Basel face model (64x64, grey, fetched by hand)",
        "celeba": "CelebA (3x64x64)",
        "celeba-hq": "CelebAMask-HQ (3x128x128, fetched by hand)",
        "dsprites": "dSprites (64x64)",
        "cmu-motion": "CMU motion capture (50 angles)",
        "bair": "BAIR robot pushing (30 frames of 3x64x64)",
        "bair-12": "BAIR robot pushing (the first 12 frames of 3x64x64)",
        "moving-digits": "moving scikit-learn digits (10 frames of 16x16, made by rule)",
        "moving-mnist": "stochastic moving MNIST (15 frames of 64x64, made by rule of MNIST's digits)",
        "moving-mnist-deterministic": "moving MNIST reflected at the walls (15 frames of 64x64)",
        "tinyshakespeare": "lines of Shakespeare's plays (23 tokens of 6,000)",
        "yahoo": "Yahoo Answers (202 tokens of 10,000, fetched by hand)",
    }
)


def described(config: DataConfig) -> str:
    """Return a description of the data that a config needs."""
    text = DATA[config.name]
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
