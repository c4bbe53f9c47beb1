"""The families of models that are measured, each by a recipe with changes that make a step short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from vae_models.config.train import TrainConfig
from vae_models.recipes import catalogue

MLP: Mapping[str, Any] = MappingProxyType({"latent": 32, "backbone": {"kind": "mlp", "hidden": [512]}})


@dataclass(frozen=True, kw_only=True)
class Family:
    """recipe: what is trained, but for `changes` of its fields. by_hand: the net of `by_hand.NETS` that is the same."""

    name: str
    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    by_hand: str | None = None

    def config(self) -> TrainConfig:
        """Return the configuration, which trains until it is stopped, and neither evaluates nor writes checkpoints."""
        fields = catalogue()[self.recipe].build().model_dump(mode="json") | dict(self.changes)
        endless = {"epochs": None, "steps": 10**6, "log_every_steps": 10**5}
        quiet = {"evaluation": {"every_epochs": 1e6, "pictures": False, "test": False}}
        return TrainConfig.model_validate(fields | endless | quiet | {"checkpoint": {"every_steps": 10**6}})


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family(
                name="mlp",
                recipe="binarized-mnist/beta-vae-mlp",
                changes={"model": MLP, "optimizer": {"lr": 1e-4}},
                by_hand="mlp",
            ),
            Family(name="cnn", recipe="binarized-mnist/beta-vae-cnn", by_hand="cnn"),
            Family(name="resnet", recipe="binarized-mnist/beta-vae-resnet"),
            Family(name="ar-elbo", recipe="celeba/ar-elbo-iso-i", changes={"batch_size": 8}),
            Family(name="vhp", recipe="binarized-mnist/vhp"),
            Family(name="multi-rate", recipe="binarized-mnist/mr-vae-resnet"),
            Family(name="nvae", recipe="digits/nvae-tiny"),
            Family(name="text", recipe="tinyshakespeare/text-vae-small"),
            Family(name="video", recipe="moving-digits/svg-tiny"),
        )
    }
)
