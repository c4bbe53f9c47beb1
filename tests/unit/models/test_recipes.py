"""Every recipe: it builds, it says where it is from, and it trains."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tests.catalogue import draw
from tests.catalogue import loss as one_loss
from vae_models.config import ConvConfig, TrainConfig
from vae_models.data.catalogue import CATALOGUE
from vae_models.recipes import catalogue
from vae_models.training.step import merged

CNN = "binarized-mnist/beta-vae-cnn"  # at its full size once; its relatives differ in data and beta alone


def small(config: TrainConfig, name: str) -> TrainConfig:
    if name == CNN or not isinstance(config.model.backbone, ConvConfig):
        return config
    narrow = config.model.backbone.model_copy(update={"channels": (4, 4, 8, 8)})
    return config.model_copy(update={"model": config.model.model_copy(update={"backbone": narrow})})


@pytest.mark.parametrize("name", catalogue())
def test_a_recipe_is_named_after_its_data_and_comes_back_from_json(name: str) -> None:
    recipe = catalogue()[name]
    config = recipe.build()
    assert recipe.name == name
    assert name.split("/")[0] == config.data.name
    assert all((recipe.paper, recipe.section, recipe.data, recipe.summary))
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("name", catalogue())
def test_a_recipe_trains_two_steps(name: str) -> None:
    config = small(catalogue()[name].build(), name)
    torch.manual_seed(0)
    shape = CATALOGUE[config.data.name].shape
    model, objective, beta = (
        config.model.build(shape),
        config.objective.build(1000, shape, config.model.latent),
        config.beta.build(100.0),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optimizer.lr)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    x = torch.rand(4, *shape).round()
    for step in (200, 201):  # in a KL warm-up beta is 0 at the very start
        specs = merged(model.noise(objective.samples), objective.noise(), beta.noise())
        noise = draw(specs, 4, torch.Generator().manual_seed(step), torch.float32)
        loss = one_loss(model, objective, x, noise, beta.beta(beta.initial(), step, noise))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        assert torch.isfinite(loss.total)
        assert all(parameter.grad is not None for parameter in model.parameters())
    for old, (key, new) in zip(before, model.named_parameters(), strict=True):
        assert torch.isfinite(new).all(), key
        assert not torch.equal(old, new), key


def test_the_paper_numbers_of_mr_vae_c2() -> None:
    for name, recipe in catalogue().items():
        if not name.startswith(("mnist/", "fashion-mnist/", "omniglot/", "binarized-mnist/beta-vae-cnn")):
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
