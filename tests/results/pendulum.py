"""VHP B: which training finds the pendulum's angle in a two-dimensional latent?

    python -m tests.results.pendulum --out DIR

VHP + REWO, beside VHP + GECO, VHP + KL warm-up (20 epochs), and IWAE with N(0, I); networks, optimizer,
kappa, nu and K of table 3. Open in the text, and chosen here: sigma = kappa of the Gaussian likelihood, so that beta =
1 belongs to the constraint; batch 128; 10,000 steps. Angle errors of the test split's posterior means, radians (B.3).
"""

from __future__ import annotations

from pathlib import Path

from tests.results.runs import Run, main, run_all, table
from vae_models.config import (
    AdamConfig,
    BetaConfig,
    ConstantBetaConfig,
    DataConfig,
    EvaluationConfig,
    GaussianConfig,
    GecoBetaConfig,
    IwaeConfig,
    MLPConfig,
    ModelConfig,
    RewoBetaConfig,
    StandardNormalConfig,
    TrainConfig,
    VHPConfig,
    WarmupBetaConfig,
)

KAPPA, NU, K = 0.02, 5.0, 16
STEPS = 10_000
BETAS: dict[str, BetaConfig] = {
    "VHP + REWO": RewoBetaConfig(kappa=KAPPA, nu=NU),
    "VHP + GECO": GecoBetaConfig(kappa=KAPPA, nu=NU),
    "VHP + warm-up": WarmupBetaConfig(epochs=20),
}


def config(name: str, scale: float) -> TrainConfig:
    iwae = name == "IWAE"
    return TrainConfig(
        data=DataConfig(name="pendulum"),
        model=ModelConfig(
            latent=2,
            backbone=MLPConfig(hidden=(256,) * 4),
            likelihood=GaussianConfig(sigma=KAPPA),
            prior=StandardNormalConfig() if iwae else VHPConfig(importance_samples=K),
        ),
        objective=IwaeConfig(samples=K) if iwae else TrainConfig.model_fields["objective"].default,
        beta=ConstantBetaConfig() if iwae else BETAS[name],
        optimizer=AdamConfig(lr=1e-4),
        batch_size=128,
        steps=max(1, round(STEPS * scale)),
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
        x = test.images.float() / 255
        return model.backbone.encode(x)[0], test.labels  # type: ignore[operator, union-attr]


def show(out: Path, scale: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from vae_models.metrics.angle import angle_fit

    names = [*BETAS, "IWAE"]
    runs = run_all({name.lower().replace(" + ", "-").replace(" ", "-"): config(name, scale) for name in names}, out)
    figure, axes = plt.subplots(1, len(names), figsize=(3 * len(names), 3), layout="constrained")
    rows = []
    for name, run, axis in zip(names, runs.values(), axes, strict=True):
        means, angles = latents(run)
        fit = angle_fit(means, angles)  # type: ignore[arg-type]
        root = run.metrics["test/squared_error"] ** 0.5
        beta = run.curve("train/beta")[-1][1]
        rows.append(
            [name, fit.ols_error, fit.angular_error, fit.neighbour_error, fit.radial_deviation / fit.radius, root, beta,
             run.metrics["test/rate"], run.metrics["test/elbo"], f"{run.seconds:.0f}"]
        )  # fmt: skip
        axis.scatter(*means.T, c=angles, cmap="hsv", s=3)  # type: ignore[attr-defined]
        axis.set_title(f"{name}: {fit.ols_error:.3f} rad")
        axis.set_aspect("equal", "datalim")
    header = ["training", "OLS error [rad]", "angle error [rad]", "neighbour's error [rad]", "off the circle",
              "root squared error", "β", "rate [nats]", "ELBO [nats]", "seconds"]  # fmt: skip
    print(table(header, rows))
    figure.savefig(out / "pendulum.png", dpi=100)


if __name__ == "__main__":
    main(__doc__, show)
