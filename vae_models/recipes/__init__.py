"""Published configurations by name: one function each, returning a `TrainConfig`. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from vae_models.recipes import ar_elbo, basic, mr_vae, sigma_vae, vhp
from vae_models.recipes.recipe import Recipe

__all__ = ["Recipe", "catalogue"]


@cache
def catalogue() -> Mapping[str, Recipe]:
    """Every recipe by its name, in the order in which people should meet them."""
    recipes = [*basic.RECIPES, *mr_vae.RECIPES, *sigma_vae.RECIPES, *vhp.RECIPES, *ar_elbo.RECIPES]
    named = {recipe.name: recipe for recipe in recipes}
    assert len(named) == len(recipes), "two recipes have one name"
    return MappingProxyType(named)
