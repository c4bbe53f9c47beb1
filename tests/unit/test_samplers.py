"""A package's sampler makes the pictures of samples, and nothing else is another for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from torch import Tensor

from tests import catalogue
from vae_models.protocols import Model, Sampler
from vae_models.records import NoiseSpec
from vae_models.samplers.laws import LatentLaw, space_of
from vae_models.samplers.specs import SAMPLERS, SamplerSpec
from vae_models.training.context import LocalContext
from vae_models.training.loop import train


@dataclass(frozen=True)
class Cold(LatentLaw):
    temperature: float

    def noise(self, model: Model) -> Mapping[str, NoiseSpec]:
        return model.prior_noise()

    def z(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        return space_of(model).sample_prior({name: self.temperature * value for name, value in noise.items()}, beta)


class ColdConfig(SamplerSpec):
    """z nearer to the prior's mean."""

    kind: Literal["cold"] = "cold"
    temperature: float = 0.01

    def build(self) -> Sampler:
        return Cold(self.temperature)


def pictures(folder: Path, **evaluation: object) -> tuple[dict[str, bytes], dict[str, float]]:
    model, _ = catalogue.MODELS["/".join(catalogue.DEFAULT)]
    settings = {"limit": 6, "test": False, **evaluation}
    result = train(catalogue.train_config("elbo", model, evaluation=settings), LocalContext(folder))
    found = {path.name.partition("-")[0]: path.read_bytes() for path in folder.rglob("*.png")}
    return found, {name: value for name, value in result.metrics.items() if "/" in name}  # without the clock's


def test_a_packages_sampler_makes_the_pictures_of_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, measured = pictures(tmp_path / "prior")
    monkeypatch.setattr(SAMPLERS, "find", {"cold": ColdConfig, **SAMPLERS.all()}.get)
    after, measured_after = pictures(tmp_path / "cold", sampler={"kind": "cold"})
    assert before.keys() == after.keys()
    assert before["samples"] != after["samples"]
    assert {name for name in before if before[name] != after[name]} == {"samples"}
    assert measured == measured_after
