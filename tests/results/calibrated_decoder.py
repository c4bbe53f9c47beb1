"""sigma-VAE: a decoder variance that is fitted against the unit-variance beta-VAE. Fashion-MNIST, grey values.

    python -m tests.results.calibrated_decoder --out DIR

The nets of sigma-VAE B (three convolutions from 32 channels, latent 20, Adam 1e-3, batch 128); 4 epochs where the paper
has 10. -log p(x) is the bound, distortion + rate at beta = 1, of the test split: nats per datum, a density on [0, 1].
beta-VAE: unit variance, and the same nets read as a decoder of variance beta, with which their objective is the bound
up to a factor (sigma-VAE 3.1). Picture: ln sigma over training, as figure 5.
"""

from __future__ import annotations

import math
from pathlib import Path

from tests.results.runs import Run, main, run_all, table
from vae_models.backbones.specs import SigmaVaeConfig
from vae_models.config.run import EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.control.specs import ConstantBetaConfig
from vae_models.data.config import DataConfig
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.optimization.specs import AdamConfig
from vae_models.topologies.vae.specs import ModelConfig

BETAS = (1.0, 0.1, 0.01, 0.001)
FITS = {"optimal": "mle", "shared": "trained"}
D = 784
EPOCHS = 4


def config(likelihood: GaussianConfig, beta: float, scale: float) -> TrainConfig:
    return TrainConfig(
        data=DataConfig(name="fashion-mnist"),
        model=ModelConfig(latent=20, backbone=SigmaVaeConfig(), likelihood=likelihood),
        beta=ConstantBetaConfig(value=beta),
        optimizer=AdamConfig(lr=1e-3),
        batch_size=128,
        epochs=EPOCHS * scale,
        log_every_steps=20,
        evaluation=EvaluationConfig(every_epochs=EPOCHS),
    )


def bound(run: Run, variance: float) -> float:
    """-log p(x) <= squared error / (2 variance) + (d/2) log(2 pi variance) + rate, nats per datum."""
    error = D * run.metrics["test/squared_error"]
    return error / (2 * variance) + D / 2 * math.log(2 * math.pi * variance) + run.metrics["test/rate"]


def show(out: Path, scale: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fitted = {name: GaussianConfig.model_validate({"fit": fit, "link": "sigmoid"}) for name, fit in FITS.items()}
    configs = {name: config(likelihood, 1.0, scale) for name, likelihood in fitted.items()}
    configs |= {f"beta-{beta:g}": config(GaussianConfig(link="sigmoid"), beta, scale) for beta in BETAS}
    runs = run_all(configs, out)
    rows: list[list[object]] = []
    for name, run in runs.items():
        beta = float(name.removeprefix("beta-")) if name.startswith("beta-") else None
        decoder = f"σ-VAE, {name}" if beta is None else f"β-VAE, β = {beta:g}"
        bounds = (-run.metrics["test/elbo"], "") if beta is None else (bound(run, 1.0), bound(run, beta))
        error, rate = run.metrics["test/squared_error"] ** 0.5, run.metrics["test/rate"]
        rows.append([decoder, *bounds, error, rate, f"{run.seconds:.0f}"])
    print(table(["decoder", "-log p(x)", "-log p(x), σ² = β", "root squared error", "rate", "seconds"], rows))
    figure, axis = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    steps_per_epoch = 50_000 / 128
    for name in fitted:
        curve = runs[name].curve("train/log_sigma")
        axis.plot([step / steps_per_epoch for step, _ in curve], [value for _, value in curve], label=f"σ-VAE, {name}")
    for beta in BETAS:
        axis.axhline(0.5 * math.log(beta), color="grey", lw=0.8, ls=":")
        axis.text(EPOCHS * scale, 0.5 * math.log(beta), f"β = {beta:g}", va="bottom", ha="right", fontsize=7)
    axis.set_xlabel("epochs")
    axis.set_ylabel("ln σ")
    axis.legend()
    figure.savefig(out / "log-sigma.png", dpi=110)


if __name__ == "__main__":
    main(__doc__, show)
