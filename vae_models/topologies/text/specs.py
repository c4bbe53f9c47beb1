"""A VAE of sentences, as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.likelihoods.specs import TokensConfig
from vae_models.strict import DataShape, dense_weights
from vae_models.topologies.specs import TopologySpec
from vae_models.topologies.vae.specs import GatingConfig

if TYPE_CHECKING:
    from vae_models.data.spec import DataSpec
    from vae_models.topologies.text.model import SentenceVAE
    from vae_models.topologies.text.multi_rate import MultiRateSentenceVAE


class TextConfig(TopologySpec):
    """A sentence read and written by LSTMs, one latent vector between them (Bowman et al. 2016)."""

    masks: ClassVar[bool] = True
    shortest: ClassVar[int | None] = 2  # <bos>, and a place to say what comes after it

    kind: Literal["text"] = "text"
    latent: int = Field(default=32, ge=1, le=bounds.WIDTH, description="dimensions of z")
    embedding: int = Field(default=256, ge=1, le=bounds.WIDTH, description="dimensions of a token, in either net")
    hidden: int = Field(default=256, ge=1, le=bounds.WIDTH, description="units of either LSTM")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="of the decoder's inputs and outputs, in training")
    word_dropout: float = Field(default=0.0, ge=0, le=1, description="of the tokens before: they become <unk>")
    heads: Literal["linear", "mlp"] = Field(
        default="linear",
        description="from the encoder's last state to q(z|x): one layer, or for mean and variance a hidden layer each",
    )
    likelihood: TokensConfig = TokensConfig()
    gating: GatingConfig | None = Field(default=None, description="multi-rate gates; none: a model of one beta")

    def suited(self, facts: DataSpec) -> TextConfig:
        """Return it for the data's vocabulary; as it is where they have none."""
        if facts.vocabulary is None:
            return self
        return self.model_copy(update={"likelihood": TokensConfig(vocabulary=facts.vocabulary)})

    def latents(self) -> Mapping[str, tuple[int, ...]]:
        """Return the one latent, z."""
        return {"z": (self.latent,)}

    def beta_range(self) -> tuple[float, float] | None:
        """Return the smallest and the largest beta that the model is for; None: it does not read beta."""
        return None if self.gating is None else (self.gating.low, self.gating.high)

    def refusals(self) -> Iterator[str]:
        """Yield a sentence for each reason why its parts do not go together."""
        if self.gating is not None and (self.gating.place != "gates" or self.gating.heads or self.gating.repeated):
            yield "model.gating of text is one gate after each layer: set place to gates, leave heads and repeated out"

    def against_lanes(self) -> str | None:
        """Return why it is not fused with others."""
        return "model text is trained alone: torch.func.vmap has no LSTM"

    def against_bf16(self) -> None:
        """Return None: what the networks return becomes float32 before a density is computed of it."""

    def weights(self, data_shape: DataShape) -> int:
        """Return how many numbers are trained: exactly, but for gates that are not affine."""
        tokens, embedding, hidden, latent = self.likelihood.vocabulary, self.embedding, self.hidden, self.latent
        lstms = 4 * hidden * (embedding + hidden) + 4 * hidden * (embedding + latent + hidden)
        heads, gated = dense_weights([2 * hidden, 2 * latent]), [2 * latent]
        if self.heads == "mlp":
            heads, gated = 2 * dense_weights([2 * hidden, 2 * hidden, latent]), 2 * [2 * hidden, latent]
        between = heads + dense_weights([latent, 2 * hidden])
        total = 2 * tokens * embedding + lstms + between + dense_weights([hidden, tokens])
        if self.gating is None:
            return total
        return total + self.gating.weights_of([embedding, 2 * hidden, *gated, embedding, 2 * hidden])

    def data_refusals(self, data_shape: DataShape, batch_size: int) -> Iterator[str]:
        """Yield a sentence for each reason why it cannot be trained on such data; batch_size: of the global batch."""
        if len(data_shape) != 1 or data_shape[0] < 3:
            yield (
                f"model text takes sentences, of shape (time), of three tokens or more, and the data have the shape "
                f"{list(data_shape)}"
            )

    def build(self, data_shape: DataShape) -> SentenceVAE | MultiRateSentenceVAE:
        """Return the model, with gates if it has `gating`: see `SentenceVAE`."""
        from vae_models.topologies.text.model import SentenceVAE
        from vae_models.topologies.text.multi_rate import MultiRateSentenceVAE

        model = SentenceVAE(
            length=data_shape[0],
            vocabulary=self.likelihood.vocabulary,
            embedding=self.embedding,
            hidden=self.hidden,
            latent=self.latent,
            dropout=self.dropout,
            word_dropout=self.word_dropout,
            deep=self.heads == "mlp",
        )
        return model if self.gating is None else MultiRateSentenceVAE(model, **self.gating.options())
