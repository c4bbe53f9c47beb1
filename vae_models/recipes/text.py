"""VAEs of sentences: Bowman et al. 2016, with the nets that MR-VAE (Bae et al. 2023, appendix C.2) trains on Yahoo.

The paper: embeddings and LSTMs of 256 dimensions, Adam, batches of 32; 200 epochs, the learning rate halved where the
validation loss does not improve for two; with and without KL warm-up. By table 1's 8,821,072 numbers the latent has 32
dimensions, the vocabulary 10,000 tokens, and the LSTMs no bias. The code that it points to (Hu et al. 2019, Texar):
dropout of 0.5, a gradient's norm of at most 5, a KL weight that rises from 0.1 over ten epochs. MR-VAE's own code
(github.com/pomonam/mr-vae): the multi-rate model has a hidden layer of its own before mean and variance, which is most
of what table 1's 9,351,632 has more, and sigmoid gates in the decoder, too.
Open: the learning rate that won (1e-3, as in Texar), the longest document (200 tokens; a longer one is cut).
Ours: the recipes of tinyshakespeare, of 20 epochs and fewer, and there a smaller net that two cores train.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from vae_models.config.run import CheckpointConfig, EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.control.specs import BetaConfig, ConstantBetaConfig, LogUniformBetaConfig, WarmupBetaConfig
from vae_models.data.config import DataConfig
from vae_models.optimization.specs import AdamConfig, PlateauScheduleConfig
from vae_models.recipes.recipe import ours, recipe
from vae_models.topologies.text.specs import TextConfig
from vae_models.topologies.vae.specs import GatingConfig

WARM_UP = WarmupBetaConfig(start=0.1, epochs=10)


def text_vae(model: TextConfig, beta: BetaConfig, *, epochs: float, data: str = "tinyshakespeare") -> TrainConfig:
    """Return a VAE of sentences. A multi-rate one is evaluated at ten log-spaced beta at its end."""
    at: dict[str, Any] = {} if model.gating is None else {"betas": BETAS, "betas_at_end_only": True}
    return TrainConfig(
        data=DataConfig(name=data),
        model=model,
        beta=beta,
        optimizer=AdamConfig(lr=1e-3, clip_norm=5.0),
        schedule=PlateauScheduleConfig(),
        batch_size=32,
        epochs=epochs,
        evaluation=EvaluationConfig(batch_size=128, **at),
        checkpoint=CheckpointConfig(every_steps=1000),
    )


PUBLISHED = TextConfig()
SMALL = TextConfig(latent=16, embedding=64, hidden=64, dropout=0.2, word_dropout=0.3)
GATING = GatingConfig(decoder="sigmoid")
RANGE = LogUniformBetaConfig(low=GATING.low, high=GATING.high)
BETAS = tuple(float(f"{10 ** (-2 + 3 * step / 9):.4g}") for step in range(10))


def multi_rate(model: TextConfig, *, heads: Literal["linear", "mlp"] = "mlp") -> TextConfig:
    """Return the model with gates, and the heads that the paper's multi-rate one has."""
    return model.model_copy(update={"gating": GATING, "heads": heads})


_C2 = "appendix C.2; the code of its nets"

RECIPES = (
    recipe(
        "yahoo/lstm", "MR-VAE", _C2, "LSTM VAE of documents",
        partial(text_vae, PUBLISHED, ConstantBetaConfig(), epochs=200, data="yahoo"),
    ),
    recipe(
        "yahoo/lstm-warmup", "MR-VAE", _C2, "LSTM VAE of documents, with KL warm-up",
        partial(text_vae, PUBLISHED, WARM_UP, epochs=200, data="yahoo"),
    ),
    recipe(
        "yahoo/mr-lstm", "MR-VAE", _C2, "multi-rate LSTM VAE of documents: every beta in [0.01, 10] in one run",
        partial(text_vae, multi_rate(PUBLISHED), RANGE, epochs=200, data="yahoo"),
    ),
    ours(
        "tinyshakespeare/text-vae", "MR-VAE", "C.2", "LSTM VAE of sentences",
        partial(text_vae, PUBLISHED, ConstantBetaConfig(), epochs=20),
    ),
    ours(
        "tinyshakespeare/text-vae-warmup", "MR-VAE", "C.2", "LSTM VAE of sentences, with KL warm-up",
        partial(text_vae, PUBLISHED, WARM_UP, epochs=20),
    ),
    ours(
        "tinyshakespeare/text-vae-small", "MR-VAE", "C.2", "narrow LSTM VAE of sentences, minutes on one core",
        partial(text_vae, SMALL, WarmupBetaConfig(start=0.1, epochs=2), epochs=4),
    ),
    ours(
        "tinyshakespeare/mr-text-vae-small", "MR-VAE", "C.2", "narrow multi-rate LSTM VAE of sentences",
        partial(text_vae, multi_rate(SMALL), RANGE, epochs=4),
    ),
)  # fmt: skip
