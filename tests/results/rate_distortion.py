"""MR-VAE: one run for the whole rate-distortion curve, beside ten beta-VAEs. Static binarized MNIST.

    python -m tests.results.rate_distortion --out DIR

Ten beta log-spaced in [0.01, 10], each a run of its own, and one multi-rate run, evaluated at the same ten: the same
nets (fully connected, 400-400, latent 32), epochs (10), batch (128), learning rate (1e-3, cosine) and seed. Smaller
nets and fewer epochs than the paper's. Test split, nats per datum; the last two columns are the differences at equal
beta of ELBO and of the training objective, distortion + beta x rate, MR-VAE less beta-VAE.
"""

from __future__ import annotations

from pathlib import Path

from tests.results.runs import main, run_all, table
from vae_models.config import (
    AdamConfig,
    ConstantBetaConfig,
    CosineScheduleConfig,
    DataConfig,
    EvaluationConfig,
    GatingConfig,
    LogUniformBetaConfig,
    MLPConfig,
    ModelConfig,
    TrainConfig,
)

BETAS = tuple(round(10 ** (-2 + 3 * i / 9), 6) for i in range(10))
EPOCHS = 10


def config(beta: float | None, scale: float) -> TrainConfig:
    """beta None: the multi-rate run."""
    evaluation = EvaluationConfig(every_epochs=EPOCHS)
    model = ModelConfig(latent=32, backbone=MLPConfig(hidden=(400, 400)))
    if beta is None:
        evaluation = evaluation.model_copy(update={"betas": BETAS})
        model = model.model_copy(update={"gating": GatingConfig(low=BETAS[0], high=BETAS[-1])})
    return TrainConfig(
        data=DataConfig(name="binarized-mnist"),
        model=model,
        beta=LogUniformBetaConfig(low=BETAS[0], high=BETAS[-1]) if beta is None else ConstantBetaConfig(value=beta),
        optimizer=AdamConfig(lr=1e-3),
        schedule=CosineScheduleConfig(),
        batch_size=128,
        epochs=EPOCHS * scale,
        evaluation=evaluation,
    )


def show(out: Path, scale: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    configs = {f"beta-{beta:g}": config(beta, scale) for beta in BETAS} | {"multi-rate": config(None, scale)}
    runs = run_all(configs, out)
    multi = runs["multi-rate"]
    rows: list[list[object]] = []
    curves: dict[str, list[tuple[float, float]]] = {"β-VAE, ten runs": [], "MR-VAE, one run": []}
    for beta in BETAS:
        own, at = runs[f"beta-{beta:g}"].metrics, f"test/beta_{beta:g}"
        rate, distortion = own["test/rate"], own["test/distortion"]
        mr_rate, mr_distortion = multi.metrics[f"{at}/rate"], multi.metrics[f"{at}/distortion"]
        curves["β-VAE, ten runs"].append((rate, distortion))
        curves["MR-VAE, one run"].append((mr_rate, mr_distortion))
        elbo = -(mr_rate + mr_distortion) + rate + distortion
        objective = (mr_distortion + beta * mr_rate) - (distortion + beta * rate)
        rows.append([beta, rate, distortion, mr_rate, mr_distortion, f"{elbo:+.2f}", f"{objective:+.2f}"])
    header = ["β", "rate", "distortion", "MR rate", "MR distortion", "Δ ELBO", "Δ objective"]
    print(table(header, rows))
    seconds = sum(runs[f"beta-{beta:g}"].seconds for beta in BETAS)
    print(f"\nten runs {seconds:.0f} s, one multi-rate run {multi.seconds:.0f} s")
    figure, axis = plt.subplots(figsize=(5, 3.6), layout="constrained")
    for (name, points), style in zip(curves.items(), ("o", "-"), strict=True):
        axis.plot(*zip(*points, strict=True), style, label=name)
    axis.set_xlabel("rate [nats per datum]")
    axis.set_ylabel("distortion [nats per datum]")
    axis.legend()
    figure.savefig(out / "rate-distortion.png", dpi=110)


if __name__ == "__main__":
    main(__doc__, show)
