"""A VAE of sentences, as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.likelihoods.specs import TokensConfig
from vae_models.strict import DataShape, dense_weights
from vae_models.topologies.specs import TopologySpec

if TYPE_CHECKING:
    from vae_models.data.spec import DataSpec
    from vae_models.topologies.text.model import SentenceVAE


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
    likelihood: TokensConfig = TokensConfig()

    def suited(self, facts: DataSpec) -> TextConfig:
        """Return it for the data's vocabulary; as it is where they have none."""
        if facts.vocabulary is None:
            return self
        return self.model_copy(update={"likelihood": TokensConfig(vocabulary=facts.vocabulary)})

    def latents(self) -> Mapping[str, tuple[int, ...]]:
        """Return the one latent, z."""
        return {"z": (self.latent,)}

    def against_lanes(self) -> str | None:
        """Return why it is not fused with others."""
        return "model text is trained alone: torch.func.vmap has no LSTM"

    def against_bf16(self) -> None:
        """Return None: what the networks return becomes float32 before a density is computed of it."""

    def weights(self, data_shape: DataShape) -> int:
        """Return how many numbers are trained."""
        tokens, embedding, hidden, latent = self.likelihood.vocabulary, self.embedding, self.hidden, self.latent
        lstms = 4 * hidden * (embedding + hidden) + 4 * hidden * (embedding + latent + hidden)
        between = dense_weights([2 * hidden, 2 * latent]) + dense_weights([latent, 2 * hidden])
        return 2 * tokens * embedding + lstms + between + dense_weights([hidden, tokens])

    def data_refusals(self, data_shape: DataShape, batch_size: int) -> Iterator[str]:
        """Yield a sentence for each reason why it cannot be trained on such data; batch_size: of the global batch."""
        if len(data_shape) != 1 or data_shape[0] < 3:
            yield (
                f"model text takes sentences, of shape (time), of three tokens or more, and the data have the shape "
                f"{list(data_shape)}"
            )

    def build(self, data_shape: DataShape) -> SentenceVAE:
        """Return the model: see `SentenceVAE`."""
        from vae_models.topologies.text.model import SentenceVAE

        return SentenceVAE(
            length=data_shape[0],
            vocabulary=self.likelihood.vocabulary,
            embedding=self.embedding,
            hidden=self.hidden,
            latent=self.latent,
            dropout=self.dropout,
            word_dropout=self.word_dropout,
        )
