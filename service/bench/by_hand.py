"""Steps to compare with: loops as people write them for speed, and pythae's trainer where it is installed."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_models.records import NoiseSpec
from vae_models.training.loop import Run

Step = Callable[[], object]
LATENT = 32


class Batches:
    """Batches of a set that lies on the device, in an order drawn anew for every epoch."""

    def __init__(self, x: Tensor, size: int) -> None:
        self._x, self._size = x, size
        self._order, self._at = torch.randperm(len(x), device=x.device), 0

    def __call__(self) -> Tensor:
        """Return the next batch; a last one that is not full is left out."""
        return self._x[self.rows()]

    def rows(self) -> Tensor:
        """Return which data the next batch has."""
        if self._at + self._size > len(self._x):
            self._order, self._at = torch.randperm(len(self._x), device=self._x.device), 0
        rows = self._order[self._at : self._at + self._size]
        self._at += self._size
        return rows


def adam(model: nn.Module) -> torch.optim.Optimizer:
    """Return torch's fastest Adam."""
    return torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)


def same_model(run: Run, x: Tensor) -> Step:
    """Return a step of a plain loop over the run's model, loss and optimizer: noise from torch's generator, a batch,
    its mask where the set has lengths, forward, backward, clipping where the configuration clips, the optimizer's step,
    the losses added up.

    run: is not used otherwise; x: the whole set as the model reads it.
    """
    batches, optimizer, clip = Batches(x, run.config.batch_size), run.optimizer, run.config.optimizer.clip_norm
    size, device = run.config.batch_size, run.device
    dtype = x.dtype if x.is_floating_point() else torch.float32
    beta, total = torch.ones((), device=device), torch.zeros((), device=device)
    own = run.train_data.noise()
    specs = {name: spec for name, spec in run.noise_specs.items() if name not in own}
    masks = run.masks.of(torch.arange(len(x), device=run.train_data.index_device))

    def step() -> None:
        noise = {name: _drawn(spec, size, device, dtype) for name, spec in specs.items()}
        at = run.controller.beta(run.control, 0, noise) if run.controller.noise() else beta
        rows = batches.rows()
        loss, _ = run.module(x[rows], noise, at, None if masks is None else masks[rows])
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(run.parameters, clip)
        optimizer.step()
        total.add_(loss.detach())

    return step


def _drawn(spec: NoiseSpec, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    draw = torch.randn if spec.kind == "normal" else torch.rand
    return draw((size, *spec.shape), device=device, dtype=dtype)


# --- the nets of the benchmark (Chadebec et al. 2022), with nothing of this package -----------------------------------


class _Mlp(nn.Module):
    """784 -> 512 -> 32 -> 512 -> 784."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(512, LATENT), nn.Linear(512, LATENT)
        self.decoder = nn.Sequential(nn.Linear(LATENT, 512), nn.ReLU(), nn.Linear(512, 784))


class _Cnn(nn.Module):
    """Four convolutions, and three transposed ones."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 128, 256, 512, 1024)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, 2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.mean, self.log_variance = nn.Linear(1024, LATENT), nn.Linear(1024, LATENT)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, 1024 * 4 * 4), nn.Unflatten(1, (1024, 4, 4)),
            nn.ConvTranspose2d(1024, 512, 3, 2, padding=1), nn.BatchNorm2d(512), nn.ReLU(),
            nn.ConvTranspose2d(512, 256, 3, 2, padding=1, output_padding=1), nn.BatchNorm2d(256), nn.ReLU(),
            nn.ConvTranspose2d(256, 1, 3, 2, padding=1, output_padding=1),
        )  # fmt: skip


NETS: Mapping[str, type[_Mlp] | type[_Cnn]] = {"mlp": _Mlp, "cnn": _Cnn}


def loss_of(model: _Mlp | _Cnn, x: Tensor) -> Tensor:
    """Return -ELBO of a batch, nats per datum, []: a Bernoulli's cross-entropy and the KL's closed form."""
    features = model.features(x)
    mean, log_variance = model.mean(features), model.log_variance(features)
    logits = model.decoder(mean + torch.exp(log_variance / 2) * torch.randn_like(mean))
    distortion = F.binary_cross_entropy_with_logits(logits.flatten(1), x.flatten(1), reduction="sum")
    rate = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
    loss: Tensor = (distortion + rate) / len(x)
    return loss


def by_hand(net: str, x: Tensor, size: int) -> tuple[Step, int]:
    """Return a step of a loop that has nothing of this package, and how many parameters it trains.

    net: of `NETS`; x: the whole set, floats [n, 1, 28, 28] in [0, 1].
    """
    model = NETS[net]().to(x.device)
    batches, optimizer, total = Batches(x, size), adam(model), torch.zeros((), device=x.device)

    def step() -> None:
        loss = loss_of(model, batches())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total.add_(loss.detach())

    return step, sum(parameter.numel() for parameter in model.parameters())


# --- pythae -----------------------------------------------------------------------------------------------------------


def pythae_version() -> str | None:
    """Return the version of pythae that is installed here; None: none is."""
    if importlib.util.find_spec("pythae") is None:
        return None
    from importlib.metadata import version

    return version("pythae")


@dataclass(frozen=True, kw_only=True)
class Pythae:
    """epoch: takes `steps` steps with pythae's own trainer and loader; parameters: how many it trains."""

    epoch: Step
    steps: int
    parameters: int


def pythae(net: str, x: Tensor, size: int, steps: int, device: torch.device) -> Pythae:
    """Return an epoch of `steps` steps of pythae's VAE on one of `NETS`, by its BaseTrainer."""
    models = cast(Any, importlib.import_module("pythae.models"))
    trainers = cast(Any, importlib.import_module("pythae.trainers"))
    datasets = cast(Any, importlib.import_module("pythae.data.datasets"))
    config = models.VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce")
    nets: dict[str, Any] = {}
    if net == "cnn":
        mnist = cast(Any, importlib.import_module("pythae.models.nn.benchmarks.mnist"))
        nets = {"encoder": mnist.Encoder_Conv_VAE_MNIST(config), "decoder": mnist.Decoder_Conv_AE_MNIST(config)}
    model = models.VAE(config, **nets)
    data = datasets.BaseDataset(x[: size * steps].cpu(), torch.zeros(size * steps))
    logging.getLogger(trainers.BaseTrainer.__module__).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        settings = trainers.BaseTrainerConfig(
            output_dir=folder, per_device_train_batch_size=size, num_epochs=1, no_cuda=device.type != "cuda"
        )
        trainer = trainers.BaseTrainer(model, data, training_config=settings)
        trainer.prepare_training()
        trainer.callback_handler.callbacks.clear()  # bars and lines for people: a step without them
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Pythae(epoch=lambda: trainer.train_step(1), steps=steps, parameters=parameters)
