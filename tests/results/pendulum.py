"""VHP B: which training finds the pendulum's angle in a two-dimensional latent?

    python -m tests.results.pendulum --out DIR

VHP + REWO, beside VHP + GECO, VHP + KL warm-up (20 epochs), and IWAE with N(0, I), three seeds each; networks,
optimizer, kappa, nu and K of table 3. Open in the text, and chosen here: sigma = 1 of the Gaussian likelihood, with
which the warm-up's beta = 1 over-regularizes as the paper's does (B.2); beta's start 0.001; batch 128; 5,000 steps.
Angle errors of the test split's posterior means, radians (B.3): medians over the seeds, the OLS error's range too.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from tests.results.runs import Run, main, run_all, table
from vae_models.backbones.specs import MLPConfig
from vae_models.config.run import EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.control.specs import BetaConfig, ConstantBetaConfig, GecoBetaConfig, RewoBetaConfig, WarmupBetaConfig
from vae_models.data.config import DataConfig
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.objectives.specs import IwaeConfig
from vae_models.optimization.specs import AdamConfig
from vae_models.priors.specs import StandardNormalConfig, VHPConfig
from vae_models.topologies.vae.specs import ModelConfig

KAPPA, NU, K = 0.02, 5.0, 16
STEPS = 5_000
SEEDS = range(3)
BETAS: dict[str, BetaConfig] = {
    "VHP + REWO": RewoBetaConfig(kappa=KAPPA, nu=NU),
    "VHP + GECO": GecoBetaConfig(kappa=KAPPA, nu=NU),
    "VHP + warm-up": WarmupBetaConfig(epochs=20),
}


def config(name: str, seed: int, scale: float) -> TrainConfig:
    iwae = name == "IWAE"
    return TrainConfig(
        data=DataConfig(name="pendulum"),
        model=ModelConfig(
            latent=2,
            backbone=MLPConfig(hidden=(256,) * 4),
            likelihood=GaussianConfig(sigma=1.0),
            prior=StandardNormalConfig() if iwae else VHPConfig(importance_samples=K),
        ),
        objective=IwaeConfig(samples=K) if iwae else TrainConfig.model_fields["objective"].default,
        beta=ConstantBetaConfig() if iwae else BETAS[name],
        optimizer=AdamConfig(lr=1e-4),
        batch_size=128,
        steps=max(1, round(STEPS * scale)),
        seed=seed,
        log_every_steps=100,
        evaluation=EvaluationConfig(every_epochs=64),
    )


def latents(run: Run) -> tuple[object, object]:
    """Posterior means [n, 2] and angles [n] of the test split."""
    import torch

    from vae_models.data import load

    test = load(DataConfig(name="pendulum")).test
    model = run.model()
    with torch.no_grad():
        x = test.x.float() / 255
        return model.backbone.encode(x)[0], test.labels  # type: ignore[operator, union-attr]


def show(out: Path, scale: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from vae_models.metrics.angle import angle_fit

    names = [*BETAS, "IWAE"]
    wanted = {f"{_file(name)}-{seed}": config(name, seed, scale) for name in names for seed in SEEDS}
    runs = run_all(wanted, out)
    size = (2 * len(SEEDS), 2.2 * len(names))
    figure, axes = plt.subplots(len(names), len(SEEDS), figsize=size, layout="constrained", squeeze=False)
    rows = []
    for name, across in zip(names, axes, strict=True):
        of_seeds = [runs[f"{_file(name)}-{seed}"] for seed in SEEDS]
        fits = []
        for seed, run, axis in zip(SEEDS, of_seeds, across, strict=True):
            means, angles = latents(run)
            fits.append(angle_fit(means, angles))  # type: ignore[arg-type]
            axis.scatter(*means.T, c=angles, cmap="hsv", s=3)  # type: ignore[attr-defined]
            axis.set_title(f"{name}, seed {seed}: {fits[-1].ols_error:.3f} rad", fontsize=7)
            axis.set_aspect("equal", "datalim")
            axis.tick_params(labelsize=6)
        ols = [fit.ols_error for fit in fits]
        rows.append(
            [name, median(ols), f"{min(ols):.3f} to {max(ols):.3f}", median(fit.angular_error for fit in fits),
             median(fit.neighbour_error for fit in fits), median(fit.radial_deviation / fit.radius for fit in fits),
             *(median(run.metrics[f"test/{metric}"] for run in of_seeds) for metric in ("rate", "elbo")),
             median(run.metrics["test/squared_error"] ** 0.5 for run in of_seeds),
             median(run.curve("train/beta")[-1][1] for run in of_seeds),
             f"{sum(run.seconds for run in of_seeds):.0f}"]
        )  # fmt: skip
    header = ["training", "OLS error [rad]", "of the seeds", "angle error [rad]", "neighbour's error [rad]",
              "off the circle", "rate [nats]", "ELBO [nats]", "root squared error", "β", "seconds"]  # fmt: skip
    print(table(header, rows))
    figure.savefig(out / "pendulum.png", dpi=100)


def _file(name: str) -> str:
    return name.lower().replace(" + ", "-").replace(" ", "-")


if __name__ == "__main__":
    main(__doc__, show)
