"""Every recipe: it builds, it says where it is from, and it trains."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tests.catalogue import draw
from tests.catalogue import loss as one_loss
from vae_models.backbones.specs import (
    BackboneConfig,
    ConvConfig,
    InfoGanConfig,
    MLPConfig,
    ResNetConfig,
    SigmaVaeConfig,
    VhpGatedConfig,
)
from vae_models.config.train import TrainConfig
from vae_models.optimization.specs import AdamConfig
from vae_models.recipes import catalogue
from vae_models.topologies.ladder.specs import NvaeConfig
from vae_models.topologies.text.specs import TextConfig
from vae_models.topologies.video.specs import VideoConfig
from vae_models.training.step import merged


def small(config: TrainConfig) -> TrainConfig:
    """The same parts with narrow networks."""
    if isinstance(config.model, NvaeConfig):
        few = {"channels": 4, "latent": 2, "groups": 2, "block_cells": 1, "encoder_cells": 1, "decoder_cells": 1}
        return config.model_copy(update={"model": config.model.model_copy(update=few)})
    if isinstance(config.model, TextConfig):
        few = {"latent": 2, "embedding": 4, "hidden": 4}
        return config.model_copy(update={"model": config.model.model_copy(update=few)})
    if isinstance(config.model, VideoConfig):
        net = config.model.frame_net.model_copy(update={"channels": (2, 2, 2, 2), "features": 2})
        few = {"frame_net": net, "latent": 2, "hidden": 4}
        return config.model_copy(update={"model": config.model.model_copy(update=few)})
    narrow: BackboneConfig = config.model.backbone
    if isinstance(narrow, ConvConfig):
        narrow = narrow.model_copy(update={"channels": (4, 4, 8, 8)})
    elif isinstance(narrow, ResNetConfig | SigmaVaeConfig):
        narrow = narrow.model_copy(update={"channels": 4})
    elif isinstance(narrow, MLPConfig | InfoGanConfig | VhpGatedConfig):
        narrow = MLPConfig(hidden=(8, 8) if not isinstance(narrow, MLPConfig) or narrow.hidden else ())
    return config.model_copy(update={"model": config.model.model_copy(update={"backbone": narrow})})


def parts(name: str) -> str:
    """What a recipe is made of: recipes that agree in it train the same code."""
    config = catalogue()[name].build()
    return (
        small(config)
        .model_copy(update={"optimizer": AdamConfig(), "steps": 1, "epochs": None})
        .model_dump_json(include={"model", "objective", "beta"})
    )


DISTINCT = {parts(name): name for name in catalogue()}.values()
BIG = ("binarized-mnist/beta-vae-cnn", "mnist/ar-elbo-iso-i", "binarized-mnist/vhp-rewo")  # at their full size


@pytest.mark.parametrize("name", catalogue())
def test_a_recipe_is_named_after_its_data_and_comes_back_from_json(name: str) -> None:
    recipe = catalogue()[name]
    config = recipe.build()
    assert recipe.name == name
    assert config.data.name.startswith(name.split("/")[0])
    assert all((recipe.paper, recipe.section, recipe.data, recipe.summary))
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("name", [*DISTINCT, *BIG])
def test_a_recipe_trains_two_steps(name: str) -> None:
    config = catalogue()[name].build()
    config = config if name in BIG else small(config)
    torch.manual_seed(0)
    shape = config.data.facts.shape
    model, beta = config.model.build(shape), config.beta.build(100.0)
    objective = config.objective.build(1000, shape, config.model.dimensions())
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optimizer.lr)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    x = torch.rand(4, *shape).round()
    if config.data.support == "tokens":
        x = torch.randint(0, config.data.facts.vocabulary or 0, (4, *shape))
    for step in (200, 201):  # in a KL warm-up beta is 0 at the very start
        specs = merged(model.noise(objective.samples), objective.noise(), beta.noise())
        noise = draw(specs, 4, torch.Generator().manual_seed(step), torch.float32)
        loss = one_loss(model, objective, x, noise, beta.beta(beta.initial(), step, noise))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        assert torch.isfinite(loss.total)
        assert all(parameter.grad is not None for parameter in model.parameters())
    changed = 0
    for old, (key, new) in zip(before, model.named_parameters(), strict=True):
        assert torch.isfinite(new).all(), key
        changed += not torch.equal(old, new)
    assert changed >= (0.6 if config.model.beta_range() else 1.0) * len(before)  # a sqrt gate may start closed


def test_the_paper_numbers_of_mr_vae_c2() -> None:
    for name, recipe in catalogue().items():
        if "/beta-vae-cnn" not in name or recipe.build().data.name in ("cifar10", "svhn", "celeba"):
            continue
        config = recipe.build()
        assert (config.epochs, config.batch_size, config.model.latent) == (200, 128, 32), name
        assert (config.optimizer.kind, config.schedule.kind, config.schedule.warmup_epochs) == ("adam", "cosine", 0)
        assert config.model.backbone == ConvConfig()
        assert config.beta.kind == ("warmup" if name.endswith("-warmup") else "constant")
        assert config.beta.value == 1.0


def test_listing_recipes_loads_no_torch() -> None:
    """The command line lists recipes in a fraction of the time that torch takes to load."""
    code = (
        "import sys; from vae_models.recipes import catalogue; [r.build() for r in catalogue().values()];"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
