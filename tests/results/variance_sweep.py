"""AR-ELBO table 1: the fixed decoder variance sigma_x^2 decides whether the posterior collapses. MNIST, grey values.

    python -m tests.results.variance_sweep --out DIR

One run for each sigma_x^2 between 1 and 0.1, posterior N(mean(x), sigma_z^2 I) with a trained sigma_z ("stochastic
encoding"); nets, latent, batch and learning rate of appendix D.1, 2 epochs where the paper has 200. Test split, sums
over the datum.
"""

from __future__ import annotations

import math
from pathlib import Path

from tests.results.runs import main, run_all, table
from vae_models.backbones.specs import InfoGanConfig
from vae_models.config.run import EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.optimization.specs import AdamConfig
from vae_models.posteriors.specs import IsotropicNormalConfig
from vae_models.topologies.vae.specs import ModelConfig

LOG10 = (0.0, -0.4, -0.7, -1.0)
EPOCHS = 2


def config(log10: float, scale: float) -> TrainConfig:
    return TrainConfig(
        data=DataConfig(name="mnist"),
        model=ModelConfig(
            latent=8,
            backbone=InfoGanConfig(norm=False, kernel=4),
            likelihood=GaussianConfig(sigma=10 ** (log10 / 2), link="sigmoid"),
            posterior=IsotropicNormalConfig(sigma=1.0),
        ),
        optimizer=AdamConfig(lr=1e-3),
        batch_size=64,
        epochs=EPOCHS * scale,
        evaluation=EvaluationConfig(every_epochs=EPOCHS, pictures=False),
    )


def show(out: Path, scale: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    runs = run_all({f"sigma2-{10**value:.3f}": config(value, scale) for value in LOG10}, out)
    rows, points = [], []
    for value, run in zip(LOG10, runs.values(), strict=True):
        sigma_z2 = math.exp(2 * run.model().get_parameter("posterior.log_sigma").item())
        error = 784 * run.metrics["test/squared_error"]
        points.append((10**value, run.metrics["test/rate"], error, sigma_z2))
        rows.append([f"{value:.1f}", error, run.metrics["test/rate"], sigma_z2, f"{run.seconds:.0f}"])
    print(table(["log10 σ_x²", "squared error per datum", "KL [nats per datum]", "σ_z²", "seconds"], rows))
    figure, left = plt.subplots(figsize=(5, 3.2), layout="constrained")
    x, rate, error, _ = zip(*points, strict=True)
    left.semilogx(x, rate, "o-", color="tab:blue", label="KL")
    left.set_xlabel("σ_x²")
    left.set_ylabel("KL [nats per datum]", color="tab:blue")
    right = left.twinx()
    right.semilogx(x, error, "s--", color="tab:orange", label="squared error")
    right.set_ylabel("squared error per datum", color="tab:orange")
    figure.savefig(out / "variance-sweep.png", dpi=110)


if __name__ == "__main__":
    main(__doc__, show)
