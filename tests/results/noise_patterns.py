"""AR-ELBO table 3: do the variances fitted by maximum likelihood find the noise that was put in? MNIST.

    python -m tests.results.noise_patterns --out DIR

Gaussian noise of variance s^2 on parts of the images (digits 0-4 or 5-9: S, B; upper or lower half: U, L), four
patterns, four parameterizations. Each estimate is the mean over the part of the variances at the end: the data set's
running ones (Iso-I, Diag-I), or those of the test images (Iso-D, Diag-D). Smaller than the paper's: fully connected
nets of 400 with a sigmoid, and 4 epochs. Marked with *: what the parameterization can express, and should be s^2 (or
0) and what is left of the images themselves.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from tests.results.runs import Run, main, run_all, table
from vae_models.config import (
    AdamConfig,
    DataConfig,
    EvaluationConfig,
    GaussianConfig,
    GaussianNoiseConfig,
    MLPConfig,
    ModelConfig,
    TrainConfig,
)

PATTERNS = ("uniform", "spatial", "conditional", "spatial-conditional")
VARIANCES = (0.01, 0.1)
AXES = {
    "Iso-I": ("iso", "dataset"),
    "Diag-I": ("diag", "dataset"),
    "Iso-D": ("iso", "datum"),
    "Diag-D": ("diag", "datum"),
}
PARTS = ("SU", "SL", "BU", "BL")
NOISY = {"uniform": PARTS, "spatial": ("SU", "BU"), "conditional": ("SU", "SL"), "spatial-conditional": ("SU",)}
ENOUGH = {
    "uniform": AXES.keys(),
    "spatial": {"Diag-I", "Diag-D"},
    "conditional": {"Iso-D", "Diag-D"},
    "spatial-conditional": {"Diag-D"},
}
EPOCHS = 4


def config(pattern: str, variance: float, name: str, scale: float) -> TrainConfig:
    tie, per = AXES[name]
    epsilon = 0.0 if name == "Iso-I" else 1e-6
    noise = GaussianNoiseConfig.model_validate({"pattern": pattern, "variance": variance})
    likelihood = GaussianConfig.model_validate(
        {"tie": tie, "per": per, "fit": "mle", "softclip": None, "epsilon": epsilon, "link": "sigmoid"}
    )
    return TrainConfig(
        data=DataConfig(name="mnist", noise=noise),
        model=ModelConfig(latent=16, backbone=MLPConfig(hidden=(400, 400)), likelihood=likelihood),
        optimizer=AdamConfig(lr=1e-3, clip_norm=1000.0),
        batch_size=128,
        epochs=EPOCHS * scale,
        evaluation=EvaluationConfig(every_epochs=EPOCHS, pictures=False),
    )


def estimates(run: Run, data: DataConfig) -> dict[str, float]:
    """Mean fitted variance of each part, over the test split."""
    import torch

    from vae_models.data import load

    model = run.model()
    test = load(data).test
    assert test.labels is not None
    variances = []
    with torch.no_grad():
        for start in range(0, len(test.images), 1000):
            x = test.images[start : start + 1000].float()
            noise = {"z": torch.zeros(len(x), 16)}
            decoded = model(x, noise).decoded
            variances.append((2 * model.likelihood.log_sigma(decoded, x)).exp().expand_as(x))  # type: ignore[operator, union-attr]
    variance = torch.cat(variances)
    small = test.labels < 5
    return {
        f"{group}{half}": float(variance[rows][:, :, lines].mean())
        for group, rows in (("S", small), ("B", ~small))
        for half, lines in (("U", slice(0, 14)), ("L", slice(14, 28)))
    }


def show(out: Path, scale: float) -> None:
    cases = list(product(PATTERNS, VARIANCES, AXES))
    configs = {
        f"{pattern}-{variance}-{name}": config(pattern, variance, name, scale) for pattern, variance, name in cases
    }
    runs = run_all(configs, out)
    rows = []
    for (pattern, variance, name), run in zip(cases, runs.values(), strict=True):
        found = estimates(run, configs[run.name].data)
        mark = "*" if name in ENOUGH[pattern] else ""
        noisy = NOISY[pattern]
        cells = [f"**{found[part]:.4f}**" if part in noisy else f"{found[part]:.4f}" for part in PARTS]
        rows.append([pattern, variance, name + mark, *cells, f"{run.seconds:.0f}"])
    print(table(["noise", "s²", "variances", *PARTS, "seconds"], rows))


if __name__ == "__main__":
    main(__doc__, show)
