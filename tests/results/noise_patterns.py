"""AR-ELBO table 3: do the variances fitted by maximum likelihood find the noise that was put in? MNIST.

    python -m tests.results.noise_patterns --out DIR

Gaussian noise of variance s^2 on parts of the images (digits 0-4 or 5-9: S, B; upper or lower half: U, L), four
patterns, four parameterizations. Each estimate is the mean over the part of the variances at the end: the data set's
running ones (Iso-I, Diag-I), or those of the test images (Iso-D, Diag-D). The true variance of the images is not known,
so what counts is the difference to the same on MNIST without noise: s^2 in a noisy part (bold) and 0 in another,
where the parameterization can express the pattern (*). Smaller than the paper's: fully connected nets of 400 with a
sigmoid, and 4 epochs. The constant inside of the logarithm, "e.g. 1e-6" in the paper, is 0.1 for Diag-D: its loss
log(e^2 + c) of single elements has a slope that falls as 1/e for errors above sqrt(c), and with 1e-6 these nets learn
the mean image.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from tests.results.runs import Run, main, run_all, table
from vae_models.backbones.specs import MLPConfig
from vae_models.config.run import EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.data.noises import GaussianNoiseConfig, NoiseConfig, NoNoiseConfig
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.optimization.specs import AdamConfig
from vae_models.topologies.vae.specs import ModelConfig

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
EPSILON = {"Iso-I": 0.0, "Diag-D": 0.1}
EPOCHS = 4


def config(pattern: str | None, variance: float, name: str, scale: float) -> TrainConfig:
    """pattern None: without noise."""
    tie, per = AXES[name]
    epsilon = EPSILON.get(name, 1e-6)
    noise: NoiseConfig = NoNoiseConfig()
    if pattern is not None:
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
        for start in range(0, len(test.x), 1000):
            x = test.x[start : start + 1000]
            x = x.float() if x.is_floating_point() else x.float() / 255
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
    clean = {f"clean-{name}": config(None, 0.0, name, scale) for name in AXES}
    configs = clean | {
        f"{pattern}-{variance}-{name}": config(pattern, variance, name, scale) for pattern, variance, name in cases
    }
    runs = run_all(configs, out)
    found = {name: estimates(run, configs[name].data) for name, run in runs.items()}
    rows: list[list[object]] = [
        ["none", "", name, *(f"{found[f'clean-{name}'][part]:.4f}" for part in PARTS), *("" for _ in PARTS)]
        for name in AXES
    ]
    for pattern, variance, name in cases:
        own, base = found[f"{pattern}-{variance}-{name}"], found[f"clean-{name}"]
        estimated = [f"{own[part]:.4f}" for part in PARTS]
        cells = {part: f"{own[part] - base[part]:+.4f}" for part in PARTS}
        differences = [f"**{cells[part]}**" if part in NOISY[pattern] else cells[part] for part in PARTS]
        mark = "*" if name in ENOUGH[pattern] else ""
        rows.append([pattern, variance, name + mark, *estimated, *differences])
    print(table(["noise", "s²", "variances", *PARTS, *(f"Δ {part}" for part in PARTS)], rows))


if __name__ == "__main__":
    main(__doc__, show)
