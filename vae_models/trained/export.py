"""Encoder and decoder as programs (`torch.export`), which load and run with torch alone.

    encoder.pt2  x [n, *shape] -> mean, std of q(z|x), each [n, latent]; of an encoder without a density the mean alone
    decoder.pt2  z [n, latent] -> E[x|z], [n, *shape]
    export.json  shapes, types and what x is; how far the programs' results lay from the model's; sums of both files

    encoder = torch.export.load("encoder.pt2").module()
    mean, std = encoder(x)

n is any number from 1 on. A program is of one beta, and computes on the CPU unless it is moved.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vae_models.protocols import LatentSpace
from vae_models.trained.checks import Refused
from vae_models.trained.model import Trained

ENCODER, DECODER, ABOUT = "encoder.pt2", "decoder.pt2", "export.json"
ROUNDING: Mapping[str, float] = {"float32": 1e-5, "float64": 1e-12}  # of results, relative to 1 or to their size
BATCHES = (1, 2, 5, 33)  # that the programs are compared on; the second is the example
SEED = 0


class Encoder(nn.Module):
    """x -> (mean, std), or (mean,) where q(z|x) has no density."""

    def __init__(self, model: nn.Module, beta: Tensor | None) -> None:
        super().__init__()
        self.model, self.beta = model, beta

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return q(z|x)'s parameters."""
        assert isinstance(self.model, LatentSpace)
        encoding = self.model.encode(x, self.beta)
        return (encoding.mean,) if encoding.log_std is None else (encoding.mean, encoding.log_std.exp())


class Decoder(nn.Module):
    """z -> (E[x|z],)."""

    def __init__(self, model: nn.Module, beta: Tensor | None) -> None:
        super().__init__()
        self.model, self.beta = model, beta

    def forward(self, z: Tensor) -> tuple[Tensor, ...]:
        """Return E[x|z]."""
        assert isinstance(self.model, LatentSpace)
        return (self.model.decode(z, self.beta),)


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program, and how far its results lay from the module's at most, as `_distance` measures it."""

    program: torch.export.ExportedProgram
    distance: float


def export(model: Trained, folder: Path, *, beta: float | None = None) -> Mapping[str, Any]:
    """Write encoder.pt2, decoder.pt2 and export.json into a folder, which is made; return what export.json says.

    Raise Refused for a model of several latents, one that torch cannot export, and one whose programs compute something
    else, beyond `ROUNDING`: nothing is written then.
    """
    space, gates = model.space, model.gates(beta)
    assert isinstance(space, nn.Module)
    inputs = {ENCODER: _data(model), DECODER: _latents(model)}
    modules = {ENCODER: Encoder(space, gates), DECODER: Decoder(space, gates)}
    programs = {name: _program(name, modules[name], inputs[name], model.config.dtype) for name in modules}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as scratch:
        partial = Path(scratch)
        for name, made in programs.items():
            torch.export.save(made.program, partial / name)
        about = _about(model, programs, partial, beta)
        (partial / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
        for name in (*programs, ABOUT):
            (partial / name).replace(folder / name)
    return about


def _program(name: str, module: nn.Module, given: Tensor, dtype: str) -> Program:
    """Return the module as a program. given: [n, ...], n at least as large as the largest of `BATCHES`."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own internals
            program = _traced(_with_what_it_reads(module.eval(), given), given)
            pairs = [(program.module()(given[:n]), module(given[:n])) for n in BATCHES]
    except Exception as error:  # torch's own, of many kinds
        first = str(error).strip().splitlines()
        raise Refused(
            f"{name.partition('.')[0]}: torch.export cannot make a program of this model "
            f"({type(error).__name__}: {first[0][:200] if first else ''})"
        ) from error
    distance = max(_distance(computed, wanted) for pair in pairs for computed, wanted in zip(*pair, strict=True))
    if not distance <= ROUNDING[dtype]:
        raise Refused(
            f"{name.partition('.')[0]}: the program that torch.export made computes something else than the model: it "
            f"differs by {distance:.3g}, and rounding is {ROUNDING[dtype]:g}"
        )
    return Program(program=program, distance=distance)


def _traced(module: nn.Module, given: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(module, (given[:2],), dynamic_shapes=({0: batch},))


def _with_what_it_reads(module: nn.Module, given: Tensor) -> nn.Module:
    """Return a copy without the parameters and buffers that it does not read: an encoder has no decoder's weights."""
    program = _traced(module, given)
    read = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    names = {str(spec.target) for spec in program.graph_signature.input_specs if spec.arg.name in read}
    every: dict[str, Tensor] = dict(module.named_buffers(remove_duplicate=False))
    every |= module.named_parameters(remove_duplicate=False)  # a layer that several gates have has a name in each
    kept = {id(every[name]) for name in names & every.keys()}
    small = copy.deepcopy(module)
    for path, owner in small.named_modules(remove_duplicate=False):
        for own in (owner._parameters, owner._buffers):
            for name in [name for name in own if id(every.get(f"{path}.{name}".lstrip("."))) not in kept]:
                own[name] = None
    return small


def _distance(computed: Tensor, wanted: Tensor) -> float:
    """Return the largest |computed - wanted| / max(1, |wanted|); infinite where the shapes differ."""
    if computed.shape != wanted.shape:
        return float("inf")
    return float(((computed - wanted).abs() / wanted.abs().clamp(min=1)).max())


def _data(model: Trained) -> Tensor:
    """Return random data of the model's kind, [n, *shape]."""
    generator, shape = torch.Generator().manual_seed(SEED), (max(BATCHES), *model.shape)
    support, vocabulary = model.config.data.support, model.config.data.facts.vocabulary
    if support == "tokens":
        return torch.randint(0, vocabulary or 2, shape, generator=generator)
    draw = torch.randn if support == "reals" else torch.rand
    x = draw(shape, generator=generator, dtype=model.dtype).to(model.device)
    return x.round() if support == "bits" else x


def _latents(model: Trained) -> Tensor:
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(max(BATCHES), model.latent, generator=generator, dtype=model.dtype).to(model.device)


def _about(model: Trained, programs: Mapping[str, Program], folder: Path, beta: float | None) -> dict[str, Any]:
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in programs}
    return {
        "format": 1,
        "shape": list(model.shape),
        "axes": list(model.config.data.facts.axes),
        "support": model.config.data.support,
        "latent": model.latent,
        "dtype": model.config.dtype,
        "beta": beta,
        "torch": torch.__version__,
        "files": {name: {"sha256": sums[name], "differs_at_most": made.distance} for name, made in programs.items()},
        "rounding": ROUNDING[model.config.dtype],
    }
