"""A second-stage VAE: a small VAE of the latents is the law of z (Dai & Wipf 2019; AR-ELBO section 6).

The first stage's aggregate posterior q(z) is not its prior p(z), and samples of the prior are then unlike data. The
second stage has latents of the same dimension u, and z as its data: z ~ p(z|u), u ~ N(0, I). It is trained by the loop
that trains every model, on z drawn anew from q(z|x) in each step.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vae_models.backbones.specs import SkipMLPConfig
from vae_models.collectives import rank, world_size
from vae_models.config.run import CheckpointConfig, EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.evaluation.fitting.latents import LatentsResidence, latents_config, latents_set
from vae_models.likelihoods.gaussian import TrainedGaussian
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.optimization.specs import AdamConfig, CosineScheduleConfig
from vae_models.protocols import Model, Tell
from vae_models.records import Encoding, NoiseSpec, Progress
from vae_models.samplers.laws import LatentLaw
from vae_models.samplers.specs import SecondStageConfig
from vae_models.topologies.vae.model import VAE
from vae_models.topologies.vae.specs import ModelConfig
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.loop import Run

LOGGED_STEPS = 100  # steps whose losses are looked at together: one that is not finite ends the training
TOLD_STEPS = 20  # steps between two words of progress, the same on every worker
SAMPLES, AT_A_TIME = 64, 8  # of q(u|z), for a bound on log p(z)
HEAD = "backbone.heads.mean.bias"  # has a number for each dimension of u, as many as z has


@dataclass(frozen=True, kw_only=True)
class SecondStage(LatentLaw):
    """p(z) = integral of N(z; f(u), sigma^2 I) N(u; 0, I) du, f the second stage's decoder and sigma its scalar."""

    vae: VAE

    def noise(self, model: Model) -> Mapping[str, NoiseSpec]:
        """Return the noise of a z: z, of u, and latent, of z given u, both standard normal [latent]."""
        shape = (self.vae.latent,)
        return {"z": NoiseSpec(shape=shape), "latent": NoiseSpec(shape=shape)}

    def z(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Draw u, then z = f(u) + sigma n; [n, latent]."""
        likelihood = self.vae.likelihood
        assert isinstance(likelihood, TrainedGaussian)
        mean = self.vae.decode(noise["z"])
        return mean + likelihood.log_sigma(mean, mean).exp() * noise["latent"]

    def density_noise(self, model: Model) -> Mapping[str, NoiseSpec]:
        """Return the noise of 64 samples of q(u|z)."""
        return {"u": NoiseSpec(shape=(SAMPLES, self.vae.latent))}

    def log_prob(self, model: Model, z: Tensor, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Return log (1/64) sum_k p(z|u_k) p(u_k) / q(u_k|z), float64 [n], nats: in the mean at most log p(z)."""
        encoding, parts = self.vae.encode(z), []
        for samples in torch.split(noise["u"], AT_A_TIME, dim=1):
            trace = self.vae.trace(z, encoding, {"z": samples})
            (latent,) = trace.latents
            log_weights = latent.log_p.double() - latent.log_q.double() - trace.distortion.double()
            parts.append(log_weights.view(len(z), -1))
        return torch.logsumexp(torch.cat(parts, 1), 1) - math.log(SAMPLES)


@dataclass(frozen=True, kw_only=True)
class SecondStageFitter:
    """The second stage's training."""

    sampler: SecondStageConfig

    def fit(self, posteriors: Encoding, *, seed: int, device: torch.device, tell: Tell) -> dict[str, Tensor]:
        """Return the second stage's parameters by name. Raise ValueError where its loss is not finite."""
        config = self.config(posteriors, seed)
        dtype: torch.dtype = getattr(torch, config.dtype)
        residence = LatentsResidence(posteriors, config.data, device, dtype)
        context = _Alone(rank(), world_size(), device)
        try:
            with closing(Run(config, context, latents_set(posteriors), residence=residence)) as run:
                _taken_to_its_end(run, tell)
                return {name: tensor.detach().cpu().clone() for name, tensor in run.model.state_dict().items()}
        except NonFiniteLoss as error:
            raise ValueError(f"the second stage's training diverged, try a smaller lr: {error}") from error

    def law(self, fitted: Mapping[str, Tensor], device: torch.device) -> SecondStage:
        """Return the second stage on the device."""
        (latent,) = fitted[HEAD].shape
        with torch.random.fork_rng(devices=[]):
            vae = self.model(latent).build((latent,)).to(device, fitted[HEAD].dtype)
        assert isinstance(vae, VAE)
        vae.load_state_dict(fitted)
        return SecondStage(vae=vae.eval().requires_grad_(False))

    def notes(self, fitted: Mapping[str, Tensor]) -> tuple[str, ...]:
        """Return nothing: its training is as long as it was asked to be."""
        return ()

    def model(self, latent: int) -> ModelConfig:
        """Return the second stage's model of z of this dimension."""
        own = self.sampler
        return ModelConfig(
            latent=latent,
            backbone=SkipMLPConfig(hidden=(own.width,) * own.layers),
            likelihood=GaussianConfig(fit="trained"),
        )

    def config(self, posteriors: Encoding, seed: int) -> TrainConfig:
        """Return the configuration of its training, by which anybody's loop would train the same."""
        own, latent = self.sampler, posteriors.mean.shape[1]
        return TrainConfig(
            data=latents_config(posteriors),
            model=self.model(latent),
            optimizer=AdamConfig(lr=own.lr),
            schedule=CosineScheduleConfig(),
            batch_size=own.batch_size,
            steps=own.budget(),
            epochs=own.epochs,
            seed=seed,
            dtype="float64" if posteriors.mean.dtype == torch.float64 else "float32",
            log_every_steps=LOGGED_STEPS,
            evaluation=EvaluationConfig(every_epochs=1e6, limit=1, test=False, pictures=False),
            checkpoint=CheckpointConfig(every_steps=10**9),
        )


def _taken_to_its_end(run: Run, tell: Tell) -> None:
    """Take the run to its last step, as its own `run` does, and tell of progress between steps."""
    going = run.begin()
    while going and not run.done:
        run.step()
        going = run.after_step()
        if run.at.step % TOLD_STEPS == 0:
            tell(run.at.step, run.timetable.total_steps)
    run.end(stopped=not going)


@dataclass(kw_only=False)
class _Alone:
    """A run of which nothing is kept but what its caller takes: no metrics, pictures or checkpoints."""

    rank: int
    world_size: int
    device: torch.device

    def latest_checkpoint(self) -> Path | None:
        return None

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        pass

    def log_picture(self, step: int, name: str, png: bytes) -> None:
        pass

    def progress(self, progress: Progress) -> None:
        pass

    def save_checkpoint(self, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        shutil.rmtree(directory)

    def stop_requested(self) -> bool:
        return False
