"""SVG-LP: frames predicted one after another, each with a latent whose prior is learned (Denton and Fergus 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_models.normal import kl_of_normals, log_density
from vae_models.posteriors.normal import DiagonalNormal
from vae_models.precision import full
from vae_models.priors.standard_normal import StandardNormal
from vae_models.protocols import LatentLayer, Likelihood
from vae_models.records import Latent, NoiseSpec, Trace
from vae_models.topologies.groups import grouped
from vae_models.topologies.likelihood import distortions

Z, PREDICTED_Z, PREDICTED_X = "z", "predict/z{}", "predict/x{}"  # names of noise; of frame t, counted from 1
Skips = Literal["context", "previous"]
UNSAMPLED = "a video continues frames that are given: predict it after some, nothing is sampled without them"


@runtime_checkable
class Frames(Protocol):
    """What encodes and decodes a frame: see `frames.FrameNet`."""

    encoder: nn.Module
    decoder: nn.Module

    def encode(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]: ...

    def decode(self, features: Tensor, maps: Sequence[Tensor]) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Steps:
    """z_t of a batch's frames. sample, mean, log_std: [rows, time, latent]; log_q, log_p, rate: [rows, time], nats."""

    sample: Tensor
    mean: Tensor
    log_std: Tensor
    log_q: Tensor
    log_p: Tensor
    rate: Tensor

    @classmethod
    def of(cls, posterior: tuple[Tensor, Tensor], prior: tuple[Tensor, Tensor], noise: Tensor) -> Steps:
        """Return z = mean + sigma noise by the posterior; each distribution is (mean, log sigma)."""
        mean, log_std = posterior
        z = mean + torch.exp(log_std) * noise

        def per_step(nats: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
            return nats(*(each.flatten(0, 1) for each in arguments)).view(z.shape[:2])

        return cls(
            sample=z,
            mean=mean,
            log_std=log_std,
            log_q=per_step(log_density, z, mean, log_std),
            log_p=per_step(log_density, z, *prior),
            rate=per_step(kl_of_normals, mean, log_std, *prior),
        )

    def latents(self, names: Sequence[str], counted: Tensor | None) -> Iterator[Latent]:
        """Yield the latent of each frame; where `counted`, [rows, time], is false, it has no nats."""
        nats = [self.log_q, self.log_p, self.rate]
        if counted is not None:
            nats = [torch.where(counted, each, 0) for each in nats]
        columns = zip(*(each.unbind(1) for each in (self.sample, self.mean, self.log_std, *nats)), strict=True)
        for name, (sample, mean, log_std, log_q, log_p, rate) in zip(names, columns, strict=False):
            yield Latent(name=name, sample=sample, mean=mean, log_std=log_std, log_q=log_q, log_p=log_p, rate=rate)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A batch's frames, encoded all at once, without padding.

    features: [batch, time, features], 0 in padding
    maps:     of the frames that are no padding, [frames, ...] each
    places:   of each frame among them, [batch, time]
    """

    features: Tensor
    maps: tuple[Tensor, ...]
    places: Tensor


class Video(nn.Module):
    """p(x_2..x_T | x_1) = int prod_t p(x_t | x_<t, z_<=t) p(z_t | x_<t) dz, q(z|x) = prod_t q(z_t | x_<=t).

    With h_t the features of frame t: the prior reads h_1..h_{t-1}, the posterior h_1..h_t (in the published code from
    h_2 on), and the predictor [h_{t-1}, z_t] and what it remembers; its output and the maps of an earlier frame are
    decoded to p(x_t|.)'s parameters. There is a term for every t >= 2, also of the context; the rate is the sum over t
    of KL(q(z_t|.) || p(z_t|.)). Training forces true frames, so all of them are encoded, and decoded, at once, and a
    batch norm's statistics are those of all frames of the global batch (the published code, frame by frame, has those
    of each time). The likelihood is of a frame: "each datum" means each frame there. Padding is neither encoded nor
    decoded.

    Skips are of the last frame of the context that has been seen, min(t - 1, context); the published code, whose loop
    updates them while t <= context, stops one frame earlier. Or, "previous", of frame t - 1.
    """

    bound = True
    sampled = False

    def __init__(
        self,
        frames: Frames,
        *,
        predictor: nn.Module,
        posterior: nn.Module,
        prior: nn.Module,
        likelihood: Likelihood,
        shape: tuple[int, int, int, int],
        latent: int,
        context: int,
        skips: Skips = "context",
    ) -> None:
        """Put the parts together. They are called as those of `recurrent` and `frames`.

        likelihood: of a frame; shape: of the longest video, (time, channels, height, width)
        latent:     dimensions of each z_t
        """
        super().__init__()
        self.frames, self.predictor, self.posterior, self.prior = frames, predictor, posterior, prior
        self.likelihood, self.shape, self.latent, self.context, self.skips = likelihood, shape, latent, context, skips
        self._names = latent_names(shape[0])

    @property
    def given(self) -> int:
        """Return how many elements of a video are given: those of its first frame."""
        _, channels, height, width = self.shape
        return channels * height * width

    def latents(self) -> Mapping[str, LatentLayer]:
        """Return the latent of each frame but the first, in time; a prior here is that of the standardized latents."""
        layer = LatentLayer(shape=(self.latent,), prior=StandardNormal(latent=self.latent), posterior=DiagonalNormal())
        return dict.fromkeys(self._names, layer)

    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the parameters by role; the predictor is of the decoder."""
        parts = {
            "encoder": (self.frames.encoder, self.posterior),
            "prior": (self.prior,),
            "decoder": (self.frames.decoder, self.predictor),
            "likelihood": (self.likelihood,),
        }
        return grouped(parts)

    def noise(self, samples: int = 1) -> Mapping[str, NoiseSpec]:
        """Return standard normal noise of every z_t, of all frames in one."""
        lead = () if samples == 1 else (samples,)
        return {Z: NoiseSpec(shape=(*lead, self.shape[0] - 1, self.latent))}

    def forward(
        self,
        x: Float[Tensor, "batch time channels height width"],
        noise: Mapping[str, Tensor],
        beta: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Trace:
        """Return one pass; the target is the video without its first frame. beta is ignored."""
        several = noise[Z].ndim == 4
        samples = noise[Z].shape[1] if several else 1
        valid = None if mask is None else mask.view(mask.shape[:2])
        seen = self._seen(x, valid)
        posterior, prior = self._posterior(seen.features), self._prior(seen.features)
        features, places, target = seen.features, seen.places, x[:, 1:]
        if several:
            features, places, target = (each.repeat_interleave(samples, 0) for each in (features, places, target))
            posterior, prior = (
                (mean.repeat_interleave(samples, 0), log_std.repeat_interleave(samples, 0))
                for mean, log_std in (posterior, prior)
            )
            valid = None if valid is None else valid.repeat_interleave(samples, 0)
        counted = None if valid is None else valid[:, 1:]
        draws = noise[Z].flatten(0, 1) if several else noise[Z]
        steps = Steps.of(posterior, prior, draws[:, : target.shape[1]])
        predicted, _ = self.predictor(torch.cat([features[:, :-1], steps.sample], dim=2))
        decoded = self._decoded(predicted, seen.maps, places, counted)
        reconstruction, distortion = self._distortions(decoded, target, counted)
        return Trace(
            target=target,
            latents=tuple(steps.latents(self._names, counted)),
            decoded=_spread(decoded, counted, target.shape[:2]),
            mean=_spread(self.likelihood.mean(decoded), counted, target.shape[:2]),
            distortion=distortion,
            reconstruction=reconstruction,
            samples=samples,
            mask=None if counted is None else counted[:, :, None, None, None],
        )

    # --- predictions ------------------------------------------------------------------------------------------------

    def prediction_noise(self, frames: int) -> Mapping[str, NoiseSpec]:
        """Return the noise of z in the context, but for its first frame, and in so many frames after it.

        Each frame's has a name of its own: fewer frames are the first of more.
        """
        times = range(2, self.context + frames + 1)
        return {PREDICTED_Z.format(time): NoiseSpec(shape=(self.latent,)) for time in times}

    def predict(self, x: Tensor, frames: int, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Return the means of the frames after the context: see `protocols.HasPrediction`."""
        return self._continued(x, frames, noise, lambda decoded, time: self.likelihood.mean(decoded))

    def drawn_prediction_noise(self, frames: int) -> Mapping[str, NoiseSpec]:
        """Return that of `prediction_noise`, and uniform noise of each frame."""
        of_x = NoiseSpec(shape=self.shape[1:], kind="uniform")
        times = range(self.context + 1, self.context + frames + 1)
        return {**self.prediction_noise(frames), **{PREDICTED_X.format(time): of_x for time in times}}

    def draw_prediction(
        self, x: Tensor, frames: int, noise: Mapping[str, Tensor], beta: Tensor | None = None
    ) -> Tensor:
        """Draw the frames after the context: see `protocols.HasPrediction`."""

        def drawn(decoded: Tensor, time: int) -> Tensor:
            return self.likelihood.sample(decoded, noise[PREDICTED_X.format(time)])

        return self._continued(x, frames, noise, drawn)

    def prior_noise(self) -> Mapping[str, NoiseSpec]:
        """Return no noise: see `sample_mean`."""
        return {}

    def sample_noise(self) -> Mapping[str, NoiseSpec]:
        """Return no noise: see `sample`."""
        return {}

    def sample_mean(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> NoReturn:
        """Raise NotImplementedError: a video begins with frames that are given."""
        raise NotImplementedError(UNSAMPLED)

    def sample(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> NoReturn:
        """Raise NotImplementedError: a video begins with frames that are given."""
        raise NotImplementedError(UNSAMPLED)

    def _continued(
        self, x: Tensor, frames: int, noise: Mapping[str, Tensor], frame: Callable[[Tensor, int], Tensor]
    ) -> Tensor:
        """Return the frames after the context, [batch, frames, ...]. frame: from parameters and its number to it.

        In the context z is drawn from the posterior, so that the predictor remembers it as in training.
        """
        if x.ndim != 5 or x.shape[1] < self.context:
            raise ValueError(
                f"a prediction reads the first {self.context} frames of videos [batch, time, channels, height, width], "
                f"and x has the shape {list(x.shape)}: give as many frames, or train with a smaller model.context"
            )
        if frames < 1:
            raise ValueError(f"frames is {frames}: ask for 1 or more")
        seen = self._seen(x[:, : self.context], None)
        remembered = prior_state = None
        if self.context > 1:
            mean, log_std = self._posterior(seen.features)
            of_context = [noise[PREDICTED_Z.format(time)] for time in range(2, self.context + 1)]
            z = mean + torch.exp(log_std) * torch.stack(of_context, dim=1)
            _, remembered = self.predictor(torch.cat([seen.features[:, :-1], z], dim=2))
            *_, prior_state = self.prior(seen.features[:, :-1])
        features, maps = seen.features[:, -1:], tuple(each[seen.places[:, -1]] for each in seen.maps)
        made = list[Tensor]()
        for time in range(self.context + 1, self.context + frames + 1):
            mean, log_std, prior_state = self.prior(features, prior_state)
            z = mean + torch.exp(log_std) * noise[PREDICTED_Z.format(time)].unsqueeze(1)
            predicted, remembered = self.predictor(torch.cat([features, z], dim=2), remembered)
            made.append(frame(self.frames.decode(predicted[:, 0], maps), time))
            if len(made) < frames:
                encoded, own_maps = self.frames.encode(made[-1])
                features, maps = encoded.unsqueeze(1), own_maps if self.skips == "previous" else maps
        return torch.stack(made, dim=1)

    # --- the parts of a pass ----------------------------------------------------------------------------------------

    def _seen(self, x: Tensor, valid: Tensor | None) -> Seen:
        """Encode the frames that are no padding. valid: which, [batch, time]; None: all."""
        rows = x.flatten(0, 1)
        features, maps = self.frames.encode(rows if valid is None else rows[valid.flatten()])
        if valid is None:
            places = torch.arange(len(rows), device=x.device)
        else:
            places = (valid.flatten().cumsum(0) - 1).clamp(min=0)
        return Seen(features=_spread(features, valid, x.shape[:2]), maps=maps, places=places.view(x.shape[:2]))

    def _posterior(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log sigma of z_2, z_3, ..., up to the frame that was seen last."""
        mean, log_std, _ = self.posterior(features)
        return full(mean[:, 1:]), full(log_std[:, 1:])

    def _prior(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log sigma of the same z, each before its own frame is seen."""
        mean, log_std, _ = self.prior(features[:, :-1])
        return full(mean), full(log_std)

    def _decoded(
        self, predicted: Tensor, maps: Sequence[Tensor], places: Tensor, counted: Tensor | None
    ) -> Float[Tensor, "frames channels_out height width"]:
        """Return the parameters of the frames that count, one after another."""
        sources = places[:, :-1]
        if self.skips == "context":
            sources = places[:, [min(time, self.context - 1) for time in range(sources.shape[1])]]
        features, sources = predicted.flatten(0, 1), sources.flatten()
        if counted is not None:
            features, sources = features[counted.flatten()], sources[counted.flatten()]
        return full(self.frames.decode(features, tuple(each[sources] for each in maps)))

    def _distortions(
        self, decoded: Tensor, target: Tensor, counted: Tensor | None
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Return (what the objective minimises, -log p(x|z)) of each video: sums over its frames that count."""
        rows = target.flatten(0, 1)
        each = distortions(self.likelihood, decoded, rows if counted is None else rows[counted.flatten()], None)
        reconstruction, distortion = (_spread(nats, counted, target.shape[:2]).sum(1) for nats in each)
        return reconstruction, distortion


def latent_names(frames: int) -> tuple[str, ...]:
    """Return the names of z_2, ..., z_T in videos of so many frames."""
    return tuple(f"z{time}" for time in range(2, frames + 1))


def _spread(rows: Tensor, valid: Tensor | None, shape: torch.Size) -> Tensor:
    """Return rows of the frames that are valid as [batch, time, ...], with zeros in place of the others."""
    if valid is None:
        return rows.view(*shape, *rows.shape[1:])
    whole = rows.new_zeros((shape.numel(), *rows.shape[1:]))
    spread = whole.masked_scatter(valid.flatten().view(-1, *[1] * (rows.ndim - 1)), rows)
    return spread.view(*shape, *rows.shape[1:])
