"""A topology over its parts, and multi-rate gating of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from vae_models import bounds
from vae_models.backbones.specs import BackboneConfig, BackboneSpec, MLPConfig
from vae_models.likelihoods.specs import BernoulliConfig, LikelihoodConfig
from vae_models.posteriors.specs import DiagonalNormalConfig, PosteriorConfig
from vae_models.priors.specs import PriorConfig, StandardNormalConfig
from vae_models.strict import DataShape, Strict, dense_weights
from vae_models.topologies.specs import TopologySpec

if TYPE_CHECKING:
    from vae_models.topologies.multi_rate import Gating
    from vae_models.topologies.vae.model import VAE
    from vae_models.topologies.vae.multi_rate import MultiRate

Function = Literal["sigmoid", "sqrt", "film"]


class GatingConfig(Strict):
    """MR-VAE: one model for all beta of a range, its layers gated by log beta. Train it with beta log-uniform."""

    fusible: ClassVar[tuple[str, ...]] = ("low", "high")

    low: float = Field(default=0.01, gt=0, le=bounds.REAL, description="smallest beta")
    high: float = Field(default=10.0, gt=0, le=bounds.REAL, description="largest beta")
    network: Literal["affine", "mlp", "mlp-shared", "mlp-5"] = Field(
        default="affine", description="from log beta to the gates: affine, two layers (first one shared or not), five"
    )
    encoder: Function = "sigmoid"
    decoder: Function = "sqrt"
    hidden: int = Field(default=64, ge=1, le=bounds.WIDTH, description="width of the networks that have hidden layers")
    place: Literal["gates", "batch-norm", "gates-and-batch-norm"] = Field(
        default="gates",
        description="after every hidden layer; as scale and shift of every batch norm (networks of two layers); or "
        "both, the norms' own scale and shift kept and added to: the CNN rows of MR-VAE's table 1",
    )
    heads: bool = Field(
        default=False,
        description="gates on q(z|x) too: on its mean, and on its variance, which a sigmoid multiplies (eqs 26, 30-31)",
    )
    start: Literal["drawn", "theorem-1"] = Field(
        default="drawn",
        description="of the gates: drawn like any layer, or as theorem 1 has them, their kinks spread over log beta",
    )
    repeated: int | None = Field(
        default=None,
        ge=0,
        le=bounds.DEPTH,
        description="the encoder's convolution, from 0, with one more gate, after its activation; none: none has",
    )

    @model_validator(mode="after")
    def _range(self) -> GatingConfig:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if not self.low <= 1 <= self.high:
            raise ValueError("the range must contain beta = 1, at which the ELBO is evaluated")
        return self

    @model_validator(mode="after")
    def _theorem_1_is_of_affine_gates(self) -> GatingConfig:
        if self.start == "theorem-1" and (self.network != "affine" or "film" in (self.encoder, self.decoder)):
            raise ValueError("start theorem-1 is of affine gates: set network to affine, and no function to film")
        return self

    def weights(self, widths: Sequence[int]) -> int:
        """Return about how many numbers are trained: one network from log beta for each hidden layer, of these widths
        in the encoder and in the decoder, and two for each batch norm. See `vae_models.nn.gates`.
        """
        both = (*(widths or (1024,)), *(widths or (1024,)))
        of_layers = self.weights_of(both) if self.place != "batch-norm" else 0
        of_norms = sum(2 * dense_weights([1, self.hidden, width]) for width in both) if self.place != "gates" else 0
        return of_layers + of_norms

    def weights_of(self, widths: Sequence[int]) -> int:
        """Return about how many numbers the gates of layers of these widths have."""
        hidden = {"affine": [], "mlp-5": [self.hidden] * 4}.get(self.network, [self.hidden])
        return sum(dense_weights([1, *hidden, width]) for width in widths)

    def refusals(self, backbone: BackboneSpec) -> Iterator[str]:
        """Yield a sentence for each reason why such networks cannot be gated so."""
        if self.place == "gates" and not backbone.layers() and not self.heads:
            yield "model.gating has nothing to gate in a backbone without hidden layers: set model.backbone.hidden"
        if self.place != "gates" and not backbone.normed():
            yield (
                f"model.gating.place={self.place} needs a backbone with batch norm, and {backbone.kind} has none: "
                "use gates"
            )
        if self.repeated is not None:
            most = backbone.repeatable() - 1
            if self.place == "batch-norm" or self.repeated > most:
                allowed = f"0 to {most} here" if most >= 0 else f"which {backbone.kind} has not: leave it out"
                yield f"model.gating.repeated is of a gate after one of the conv backbone's convolutions, {allowed}"

    def options(self) -> Gating:
        """Return the fields, as `Gated` takes them."""
        return {
            "low": self.low,
            "high": self.high,
            "network": self.network,
            "encoder": self.encoder,
            "decoder": self.decoder,
            "hidden": self.hidden,
            "place": self.place,
            "heads": self.heads,
            "start": self.start,
            "repeated": self.repeated,
        }

    def build(self, model: VAE) -> MultiRate:
        """Return the VAE with gates."""
        from vae_models.topologies.vae.multi_rate import MultiRate

        return MultiRate(model, **self.options())


class ModelConfig(TopologySpec):
    """One stochastic layer between an encoder and a decoder."""

    masks: ClassVar[bool] = True

    kind: Literal["vae"] = "vae"
    latent: int = Field(default=32, ge=1, le=bounds.WIDTH, description="dimensions of z")
    backbone: BackboneConfig = MLPConfig()
    likelihood: LikelihoodConfig = BernoulliConfig()
    prior: PriorConfig = StandardNormalConfig()
    posterior: PosteriorConfig = DiagonalNormalConfig()
    gating: GatingConfig | None = Field(default=None, description="multi-rate gates; none: a model of one beta")

    def latents(self) -> Mapping[str, tuple[int, ...]]:
        """Return the one latent, z."""
        return {"z": (self.latent,)}

    def against_bf16(self) -> None:
        """Return None: what the networks return becomes float32 before a density is computed of it."""

    def beta_range(self) -> tuple[float, float] | None:
        """Return the smallest and the largest beta that the model is for; None: it does not read beta."""
        return None if self.gating is None else (self.gating.low, self.gating.high)

    def weights(self, data_shape: DataShape) -> int:
        """Return about how many numbers are trained, from the specification alone."""
        heads = 2 * self.latent if self.posterior.scale else self.latent
        per_element = self.likelihood.parameters_per_element()
        parts = self.backbone.weights(data_shape, self.latent, heads, per_element)
        parts += self.prior.weights(self.latent, data_shape)
        return parts if self.gating is None else parts + self.gating.weights(self.backbone.widths())

    def refusals(self) -> Iterator[str]:
        """Yield a sentence for each reason why its parts do not go together."""
        if self.gating is None:
            return
        if self.prior.pseudo_inputs() is not None:
            yield (
                f"model.gating and {self.prior.kind} do not go together: the pseudo-inputs have no beta for the "
                "encoder's gates"
            )
        yield from self.gating.refusals(self.backbone)

    def data_refusals(self, data_shape: DataShape, batch_size: int) -> Iterator[str]:
        """Yield a sentence for each reason why it cannot be trained on such data; batch_size: of the global batch."""
        try:
            self.backbone.check(data_shape)
        except ValueError as error:
            yield str(error)
        yield from self._norm_refusals(data_shape, batch_size)
        yield from self.likelihood.refusals(data_shape, batch_size)

    def _norm_refusals(self, data_shape: DataShape, batch_size: int) -> Iterator[str]:
        """Yield why a batch norm would see one value per channel, which has no variance.
        Its statistics are the global batch's.
        """
        values, pseudo_inputs = self.backbone.normed_values(data_shape), self.prior.pseudo_inputs()
        if not values or values > 1:
            return
        size = f"{data_shape[1]} x {data_shape[2]}"
        why = f"the {self.backbone.kind} backbone's batch norm has one value per channel of a {size} image, and needs "
        mend = "or choose a backbone without batch norm (mlp, or infogan with norm false)"
        if batch_size < 2:
            yield f"{why}two in a batch: set batch_size to 2 or more, {mend}"
        if pseudo_inputs is not None and pseudo_inputs < 2:
            yield (
                f"{why}two in a batch of {self.prior.kind}'s pseudo-inputs: set model.prior.components to 2 or more, "
                f"{mend}"
            )

    def build(self, data_shape: DataShape) -> VAE | MultiRate:
        """Return the VAE, with gates if it has `gating`."""
        from vae_models.topologies.vae.model import VAE

        likelihood, posterior = self.likelihood.build(data_shape), self.posterior.build()
        model = VAE(
            backbone=self.backbone.build(
                data_shape, self.latent, likelihood.parameters_per_element(), scale=posterior.scale
            ),
            likelihood=likelihood,
            prior=self.prior.build(data_shape, self.latent),
            posterior=posterior,
            latent=self.latent,
            data_shape=data_shape,
        )
        return model if self.gating is None else self.gating.build(model)
