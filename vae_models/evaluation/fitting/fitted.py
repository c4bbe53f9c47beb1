"""What was fitted to a trained model, as data: tensors in safetensors, beside them in JSON what they are of.

    NAME/sampler.json         the sampler's specification, the model's weights and the tensors by their SHA-256
    NAME/sampler.safetensors  what was fitted

Nothing is unpickled. A law of one model's latents says nothing of another's: whoever loads it checks the weights.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from vae_models.measures import STORED, of_beta
from vae_models.protocols import Sampler
from vae_models.samplers.specs import FittedSamplerSpec, SamplerConfig, SamplerSpec

FORMAT = 1
ABOUT, TENSORS = "sampler.json", "sampler.safetensors"
CPU = torch.device("cpu")


class UnfitSampler(ValueError):  # noqa: N818 - says what is the case
    """What was stored of a sampler is damaged, or is of another model: which, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A sampler, fitted.

    tensors: what its fitter has found, on the CPU
    weights: of the model, as `weights_digest` says
    beta:    of a multi-rate model, at which the posteriors were taken; None: 1
    seed:    of the fit
    count:   how many posteriors it was given
    """

    sampler: FittedSamplerSpec
    tensors: Mapping[str, Tensor]
    weights: str
    beta: float | None
    seed: int
    count: int

    @property
    def name(self) -> str:
        """Return the name that it has in a folder: the sampler's, with beta where it is another than 1."""
        return named(self.sampler, self.beta)

    def law(self, device: torch.device = CPU) -> Sampler:
        """Return the law of z, on this device."""
        return self.sampler.fitter().law(self.tensors, device)

    def notes(self) -> tuple[str, ...]:
        """Return what a reader has to know of the fit."""
        return tuple(self.sampler.fitter().notes(self.tensors))

    def check(self, model: nn.Module) -> Fitted:
        """Return it. Raise UnfitSampler where it was fitted to a model with other weights."""
        if (weights := weights_digest(model)) != self.weights:
            raise UnfitSampler(
                f"the sampler {self.sampler.called()} was fitted to a model with the weights {self.weights[:12]}…, and "
                f"this one has {weights[:12]}…: fit it to this model"
            )
        return self

    def save(self, folder: Path) -> Path:
        """Write folder/NAME, whole or not at all, in place of what was there, and return it."""
        from safetensors.torch import save_file

        target = folder / self.name
        folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=folder))
        try:
            save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, partial / TENSORS)
            fields = {**self.about(), "tensors": hashlib.sha256((partial / TENSORS).read_bytes()).hexdigest()}
            (partial / ABOUT).write_text(json.dumps(fields, indent=1) + "\n")
            partial.chmod(0o755)  # mkdtemp's 0700 would hide it from others
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return target

    def about(self) -> dict[str, Any]:
        """Return everything but the tensors, as JSON has it."""
        return {
            "format": FORMAT,
            "sampler": self.sampler.model_dump(mode="json"),
            "weights": self.weights,
            "beta": self.beta,
            "seed": self.seed,
            "count": self.count,
        }

    @classmethod
    def load(cls, folder: Path) -> Fitted:
        """Return what `save` wrote. Raise UnfitSampler for what is missing, damaged or of another version."""
        from safetensors.torch import load

        try:
            about, data = (folder / ABOUT).read_bytes(), (folder / TENSORS).read_bytes()
        except FileNotFoundError as error:
            raise UnfitSampler(f"{folder} has no {Path(error.filename).name}: there is no sampler in it") from None
        promised = cls._about_of(about, folder / ABOUT).get("tensors")
        if (actual := hashlib.sha256(data).hexdigest()) != promised:
            raise UnfitSampler(
                f"{folder / TENSORS} is not what was written: it has SHA-256 {actual}, {ABOUT} says {promised}"
            )
        return cls.of(about, load(data), where=folder / ABOUT)

    @classmethod
    def of(cls, about: bytes, tensors: Mapping[str, Tensor], *, where: object) -> Fitted:
        """Return the sampler of its JSON text and its tensors. where: for errors. Raise UnfitSampler as `load` does."""
        fields = cls._about_of(about, where)
        try:
            sampler: SamplerSpec = TypeAdapter(SamplerConfig).validate_python(fields["sampler"], context=STORED)
            rest = {name: fields[name] for name in ("weights", "beta", "seed", "count")}
        except (KeyError, ValidationError) as error:
            raise UnfitSampler(f"{where} is damaged, or of another version: {error}") from error
        if not isinstance(sampler, FittedSamplerSpec):
            raise UnfitSampler(f"{where} is of the sampler {sampler.kind}, which is not fitted")
        return cls(sampler=sampler, tensors=tensors, **rest)

    @staticmethod
    def _about_of(text: bytes, where: object) -> Mapping[str, Any]:
        try:
            about = json.loads(text)
        except ValueError as error:
            raise UnfitSampler(f"{where} is not JSON: {error}") from None
        version = about.get("format") if isinstance(about, dict) else None
        if version != FORMAT:
            raise UnfitSampler(f"{where} has format {version!r}; this version reads format {FORMAT}")
        return dict(about)


def named(sampler: SamplerSpec, beta: float | None) -> str:
    """Return gmm-10, or gmm-10-beta_0.5 of a fit at another beta than 1."""
    return sampler.called() if beta is None else f"{sampler.called()}-{of_beta(beta)}"


def packed(fitted: Fitted) -> dict[str, Tensor]:
    """Return all of it as tensors, NAME/TENSOR, and NAME/sampler.json as bytes: for `Findings.tensors`."""
    name, text = fitted.name, json.dumps(fitted.about())
    about = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    return {f"{name}/{ABOUT}": about, **{f"{name}/{key}": value for key, value in fitted.tensors.items()}}


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Fitted]:
    """Return the samplers among the tensors, by name: of `packed`. Raise UnfitSampler for what is damaged."""
    samplers = {}
    for key in tensors:
        name, _, what = key.partition("/")
        if what == ABOUT:
            own = {each.removeprefix(f"{name}/"): tensors[each] for each in tensors if each.startswith(f"{name}/")}
            samplers[name] = Fitted.of(bytes(own.pop(ABOUT).tolist()), own, where=name)
    return samplers


def fitted_in(folder: Path) -> dict[str, Path]:
    """Return the folders of the samplers in `folder`, by name; empty where there is none."""
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"[!.]*/{ABOUT}"))}


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 of the model's parameters and buffers with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
