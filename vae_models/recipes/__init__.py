"""Published configurations by name: one function each, returning a `TrainConfig`. Importing this loads no torch.

Recipes of installed packages come with them: an entry point `recipe` of the group `vaesvc.parts`, whose value is a
`Recipe` or a tuple of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vae_models.parts import Seam
from vae_models.recipes.recipe import Recipe

__all__ = ["RECIPES", "Recipe", "catalogue"]


def _wrong(part: Any) -> str | None:
    if not isinstance(part, Recipe):
        return f"{part!r} is no Recipe: make it with vae_models.recipes.Recipe"
    return None if callable(part.build) else "its build is not a function that returns a TrainConfig"


MODULES = ("basic", "mr_vae", "sigma_vae", "vhp", "ar_elbo", "nvae", "text", "video")
RECIPES: Seam[Recipe] = Seam(
    "recipe",
    [
        f"vae_models.recipes.{module}:RECIPES"
        for module in ("basic", "mr_vae", "sigma_vae", "vhp", "ar_elbo", "nvae", "text", "video")
    ],
    check=_wrong,
    summary="a configuration by name",
)


def catalogue() -> Mapping[str, Recipe]:
    """Return every recipe by its name, in the order in which people should meet them."""
    return RECIPES.all()
