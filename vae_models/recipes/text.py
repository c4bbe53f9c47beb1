"""VAEs of sentences: Bowman et al. 2016, with the nets that MR-VAE (Bae et al. 2023, appendix C.2) trains on Yahoo.

The paper: embeddings and LSTMs of 256 dimensions, Adam, batches of 32; 200 epochs, the learning rate halved where the
validation loss does not improve for two; with and without KL warm-up. By table 1's 8,821,072 numbers the latent has 32
dimensions, the vocabulary 10,000 tokens, and the LSTMs no bias. The code that it points to (Hu et al. 2019, Texar):
dropout of 0.5, a gradient's norm of at most 5, a KL weight that rises from 0.1 over ten epochs.
Ours: tinyshakespeare in place of Yahoo, and with it 20 epochs. Yahoo's files are trained on by `--data`, after
`vaesvc data add`.
"""

from __future__ import annotations

from functools import partial

from vae_models.config.run import CheckpointConfig, EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.control.specs import BetaConfig, ConstantBetaConfig, WarmupBetaConfig
from vae_models.data.config import DataConfig
from vae_models.optimization.specs import AdamConfig, PlateauScheduleConfig
from vae_models.recipes.recipe import ours
from vae_models.topologies.text.specs import TextConfig

WARM_UP = WarmupBetaConfig(start=0.1, epochs=10)


def text_vae(model: TextConfig, beta: BetaConfig, *, epochs: float) -> TrainConfig:
    """Return a VAE of the lines of tinyshakespeare."""
    return TrainConfig(
        data=DataConfig(name="tinyshakespeare"),
        model=model,
        beta=beta,
        optimizer=AdamConfig(lr=1e-3, clip_norm=5.0),
        schedule=PlateauScheduleConfig(),
        batch_size=32,
        epochs=epochs,
        evaluation=EvaluationConfig(batch_size=128),
        checkpoint=CheckpointConfig(every_steps=1000),
    )


PUBLISHED = TextConfig()
SMALL = TextConfig(latent=16, embedding=64, hidden=64, dropout=0.2, word_dropout=0.3)

RECIPES = (
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
)  # fmt: skip
