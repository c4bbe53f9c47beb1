"""Parts as a package of somebody's own has them: a topology of two latents, and a likelihood with a number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vae_models.likelihoods.specs import ANY, BernoulliConfig, LikelihoodConfig, LikelihoodSpec
from vae_models.normal import sum_per_datum
from vae_models.numbers import Number
from vae_models.posteriors.normal import DiagonalNormal, normal_latent
from vae_models.priors.standard_normal import StandardNormal
from vae_models.protocols import LatentLayer, Likelihood
from vae_models.records import NoiseSpec, Trace
from vae_models.topologies.groups import grouped
from vae_models.topologies.likelihood import distortions
from vae_models.topologies.specs import TopologySpec


class LadderConfig(TopologySpec):
    """x -> z1 -> z2: p(z2) p(z1|z2) p(x|z1), and the posteriors q(z1|x) q(z2|z1)."""

    kind: Literal["ladder"] = "ladder"
    latent: int = Field(default=4, ge=1, le=100)
    likelihood: LikelihoodConfig = BernoulliConfig()

    def latents(self) -> Mapping[str, tuple[int, ...]]:
        return {"z1": (self.latent,), "z2": (self.latent,)}

    def weights(self, data_shape: tuple[int, ...]) -> int:
        return 4 * self.latent * (math.prod(data_shape) + self.latent)

    def build(self, data_shape: tuple[int, ...]) -> nn.Module:
        return Ladder(self.likelihood.build(data_shape), data_shape, self.latent)


class Conditional(nn.Module):
    """A prior of z1 that z2 has told its mean and log standard deviation."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        super().__init__()
        self.mean, self.log_std = mean, log_std

    def log_prob(self, z: Tensor) -> Tensor:
        return sum_per_datum(-0.5 * ((z - self.mean) / self.log_std.exp()).square() - self.log_std) - z.shape[
            1
        ] * 0.5 * math.log(2 * math.pi)

    def normal_kl(self, mean: Tensor, log_std: Tensor) -> None:
        return None


class Ladder(nn.Module):
    bound = sampled = True

    def __init__(self, likelihood: Likelihood, data_shape: tuple[int, ...], latent: int) -> None:
        super().__init__()
        self.likelihood, self.data_shape, self.latent = likelihood, data_shape, latent
        elements, first = math.prod(data_shape), data_shape[0] * likelihood.parameters_per_element()
        self.up1 = nn.Sequential(nn.Flatten(), nn.Linear(elements, 2 * latent))
        self.up2, self.down2 = nn.Linear(latent, 2 * latent), nn.Linear(latent, 2 * latent)
        out = nn.Linear(latent, elements * likelihood.parameters_per_element())
        self.down1 = nn.Sequential(out, nn.Unflatten(1, (first, *data_shape[1:])))

    def latents(self) -> Mapping[str, LatentLayer]:
        layer = LatentLayer(shape=(self.latent,), prior=StandardNormal(latent=self.latent), posterior=DiagonalNormal())
        return {"z1": layer, "z2": layer}

    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        parts = {"decoder": (self.down1,), "prior": (self.down2,), "encoder": (self.up1, self.up2)}
        return grouped({**parts, "likelihood": (self.likelihood,)})

    def noise(self, samples: int = 1) -> Mapping[str, NoiseSpec]:
        several = () if samples == 1 else (samples,)
        return {name: NoiseSpec(shape=(*several, self.latent)) for name in ("z1", "z2")}

    def forward(self, x: Tensor, noise: Mapping[str, Tensor], beta: Any = None, mask: Any = None) -> Trace:
        samples = noise["z1"].shape[1] if noise["z1"].ndim == 3 else 1
        x = x.repeat_interleave(samples, 0)
        n1, n2 = (noise[name].flatten(0, -2) for name in ("z1", "z2"))
        mean, raw = self.up1(x).chunk(2, 1)
        z1 = mean + (raw / 2).exp() * n1
        mean2, raw2 = self.up2(z1).chunk(2, 1)
        top = normal_latent("z2", mean2, raw2 / 2, n2, StandardNormal(latent=self.latent))
        prior_mean, prior_raw = self.down2(top.sample).chunk(2, 1)
        low = normal_latent("z1", mean, raw / 2, n1, Conditional(prior_mean, prior_raw / 2))
        decoded = self.down1(low.sample)
        reconstruction, distortion = distortions(self.likelihood, decoded, x, mask)
        return Trace(
            target=x, latents=(low, top), decoded=decoded, mean=self.likelihood.mean(decoded), samples=samples,
            distortion=distortion, reconstruction=reconstruction, mask=mask,
        )  # fmt: skip

    def prior_noise(self) -> Mapping[str, NoiseSpec]:
        return self.noise()

    def sample_noise(self) -> Mapping[str, NoiseSpec]:
        return {**self.noise(), "x": NoiseSpec(shape=self.data_shape, kind="uniform")}

    def _decoded(self, noise: Mapping[str, Tensor]) -> Tensor:
        mean, raw = self.down2(noise["z2"]).chunk(2, 1)
        decoded: Tensor = self.down1(mean + (raw / 2).exp() * noise["z1"])
        return decoded

    def sample_mean(self, noise: Mapping[str, Tensor], beta: Any = None) -> Tensor:
        return self.likelihood.mean(self._decoded(noise))

    def sample(self, noise: Mapping[str, Tensor], beta: Any = None) -> Tensor:
        return self.likelihood.sample(self._decoded(noise), noise["x"])


class LaplaceConfig(LikelihoodSpec):
    """A density: exp(-|x - d| / scale) / (2 scale)."""

    measure: ClassVar[Literal["density"]] = "density"
    supports: ClassVar[frozenset[Any]] = ANY
    fusible: ClassVar[tuple[str, ...]] = ("scale",)

    kind: Literal["laplace"] = "laplace"
    scale: float = Field(default=1.0, gt=0, le=1e6)
    fault: str = Field(default="", description="which promise it breaks, for tests")

    def build(self, data_shape: tuple[int, ...]) -> Laplace:
        return Laplace(self.scale, self.fault)


class Laplace(nn.Module):
    measure: ClassVar[Literal["density"]] = "density"

    def __init__(self, scale: float, fault: str = "") -> None:
        super().__init__()
        self.scale = Number(scale)
        self.fault = fault
        self.calls = 0

    def parameters_per_element(self) -> int:
        return 1

    def log_prob(self, decoded: Tensor, x: Tensor) -> Tensor:
        scale = self.scale.like(x)
        each = -(x - decoded).abs() / scale - torch.log(2 * scale)
        self.calls += 1
        match self.fault:
            case "shape":
                return each.flatten(1).sum(1, keepdim=True)
            case "draws":
                return sum_per_datum(each + 0 * torch.randn_like(each))
            case "counts":
                return sum_per_datum(each) + self.calls
            case "nan":
                return sum_per_datum((each - each).log() * 0)
            case "raises":
                raise KeyError("alpha")
        return sum_per_datum(each)

    def mean(self, decoded: Tensor) -> Tensor:
        return decoded.flatten(1) if self.fault == "mean" else decoded

    def sample(self, decoded: Tensor, noise: Tensor) -> Tensor:
        away = noise - 0.5
        return decoded - self.scale.like(noise) * away.sign() * torch.log1p(-2 * away.abs().clamp(max=0.4999))
