"""A VAE of videos, as data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.data.spec import AXES
from vae_models.likelihoods.specs import GaussianConfig, LikelihoodConfig
from vae_models.strict import DataShape, dense_weights
from vae_models.topologies.specs import TopologySpec
from vae_models.topologies.video.frame_specs import DcganConfig, FrameNetConfig

if TYPE_CHECKING:
    from vae_models.data.spec import DataSpec
    from vae_models.topologies.video.model import Video

MOST_FRAMES = 1_000  # of a video: a datum's noise, its latents and its terms are in proportion


class VideoConfig(TopologySpec):
    """Frames predicted one after another, each with a latent whose prior is learned: SVG-LP (Denton and Fergus 2018).

    The likelihood is of a frame: "per datum" means each frame there.
    """

    masks: ClassVar[bool] = True
    continues: ClassVar[bool] = True

    kind: Literal["video"] = "video"
    frames: int = Field(default=15, ge=3, le=MOST_FRAMES, description="of a video: the data's")
    context: int = Field(default=5, ge=1, le=MOST_FRAMES, description="frames that a prediction is given")
    latent: int = Field(default=10, ge=1, le=bounds.WIDTH, description="dimensions of z of a frame")
    hidden: int = Field(default=256, ge=1, le=bounds.WIDTH, description="units of each layer of the LSTMs")
    predictor_layers: int = Field(default=2, ge=1, le=bounds.DEPTH, description="of the predictor's LSTM")
    latent_layers: int = Field(
        default=1, ge=1, le=bounds.DEPTH, description="of the posterior's LSTM, and of the prior's"
    )
    skips: Literal["context", "previous"] = Field(
        default="context",
        description="whose feature maps a frame is decoded with: the context's last, or the frame's before it",
    )
    frame_net: FrameNetConfig = Field(default=DcganConfig(), description="what encodes and decodes a frame")
    likelihood: LikelihoodConfig = Field(default=GaussianConfig(link="sigmoid"), description="of a frame")

    def suited(self, facts: DataSpec) -> VideoConfig:
        """Return it for videos of the data's length; as it is for what are no videos."""
        of_video = facts.axes == ("time", *AXES) and 3 <= facts.shape[0] <= MOST_FRAMES
        return self.model_copy(update={"frames": facts.shape[0]}) if of_video else self

    def latents(self) -> Mapping[str, tuple[int, ...]]:
        """Return the latent of each frame but the first, z2, z3, ..., in time."""
        return {f"z{time}": (self.latent,) for time in range(2, self.frames + 1)}

    def against_lanes(self) -> str | None:
        """Return why it is not fused with others."""
        return "model video is trained alone: torch.func.vmap has no LSTM"

    def against_micro_batch(self) -> str:
        """Return that the nets of its frames have batch norms."""
        return "model video's batch norms take the statistics of the whole batch"

    def against_bf16(self) -> None:
        """Return None: what the networks return becomes float32 before a density is computed of it."""

    def weights(self, data_shape: DataShape) -> int:
        """Return how many numbers are trained, but for a likelihood's own; 0 of what are no videos."""
        if len(data_shape) != 4:
            return 0
        features, hidden, latent = self.frame_net.width, self.hidden, self.latent
        predictor = dense_weights([features + latent, hidden]) + dense_weights([hidden, features])
        normal = dense_weights([features, hidden]) + 2 * dense_weights([hidden, latent])
        of_layer = 4 * hidden * (hidden + hidden) + 8 * hidden  # of an LSTM, whose gates have two biases each
        lstms = (self.predictor_layers + 2 * self.latent_layers) * of_layer
        frames = self.frame_net.weights(data_shape[1:], self.likelihood.parameters_per_element())
        return frames + predictor + 2 * normal + lstms

    def outputs(self, data_shape: DataShape) -> int:
        """Return how many numbers the decoder gives for a video."""
        return math.prod(data_shape) * self.likelihood.parameters_per_element()

    def data_refusals(self, data_shape: DataShape, batch_size: int) -> Iterator[str]:
        """Yield a sentence for each reason why it cannot be trained on such data; batch_size: of the global batch."""
        if len(data_shape) != 4:
            yield (
                f"model video takes videos (time, channel, height, width), and the data have the shape "
                f"{list(data_shape)}"
            )
            return
        length, *frame = data_shape
        fewest = max(3, self.context + 1)
        if length < fewest:
            yield (
                f"model.context is {self.context}, and the videos have {length} frames: there must be {fewest} or "
                "more, the context and one that is predicted; give longer videos"
                + (f", or set model.context to {length - 1} or less" if length >= 3 else "")
            )
        elif length != self.frames:
            yield f"model.frames is {self.frames}, and the videos have {length} frames: set model.frames to it"
        yield from self.frame_net.refusals((frame[0], frame[1], frame[2]))
        yield from self.likelihood.refusals((frame[0], frame[1], frame[2]), batch_size * (length - 1))

    def build(self, data_shape: DataShape) -> Video:
        """Return the model: see `Video`."""
        from vae_models.topologies.video.model import Video
        from vae_models.topologies.video.recurrent import GaussianLSTM, Predictor

        time, channels, height, width = data_shape
        frame = (channels, height, width)
        features, latent, hidden = self.frame_net.width, self.latent, self.hidden
        of_latent = {"features": features, "latent": latent, "hidden": hidden, "layers": self.latent_layers}
        return Video(
            self.frame_net.build(frame, self.likelihood.parameters_per_element()),
            predictor=Predictor(features=features, latent=latent, hidden=hidden, layers=self.predictor_layers),
            posterior=GaussianLSTM(**of_latent),
            prior=GaussianLSTM(**of_latent),
            likelihood=self.likelihood.build(frame),
            shape=(time, *frame),
            latent=latent,
            context=self.context,
            skips=self.skips,
        )
