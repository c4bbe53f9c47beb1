"""MR-VAE: one run for the whole rate-distortion curve, beside ten beta-VAEs. Static binarized MNIST.

    python -m tests.results.rate_distortion --out DIR

Ten beta log-spaced in [0.01, 10], each a run of its own, and one multi-rate run, evaluated at the same ten: the same
nets (fully connected, 400-400, latent 32), batch (128), schedule (cosine), seed and epochs (10); and one multi-rate run
of 30 epochs. As in appendix C.2 either's learning rate is the one of three with the best validation ELBO at beta = 1.
Smaller nets and fewer epochs than the paper's. Test split, nats per datum; differences at equal beta are of ELBO and of
the training objective, distortion + beta x rate, MR-VAE less beta-VAE.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.results.runs import Run, main, run_all, table
from vae_models.backbones.specs import MLPConfig
from vae_models.config.run import EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.control.specs import ConstantBetaConfig, LogUniformBetaConfig
from vae_models.data.config import DataConfig
from vae_models.optimization.specs import AdamConfig, CosineScheduleConfig
from vae_models.topologies.vae.specs import GatingConfig, ModelConfig

BETAS = tuple(round(10 ** (-2 + 3 * i / 9), 6) for i in range(10))
EPOCHS, LONGER = 10, 30
RATES = (0.01, 0.003, 0.001)


def config(beta: float | None, lr: float, scale: float, epochs: int = EPOCHS) -> TrainConfig:
    """beta None: the multi-rate run."""
    evaluation = EvaluationConfig(every_epochs=epochs)
    model = ModelConfig(latent=32, backbone=MLPConfig(hidden=(400, 400)))
    if beta is None:
        evaluation = evaluation.model_copy(update={"betas": BETAS})
        model = model.model_copy(update={"gating": GatingConfig(low=BETAS[0], high=BETAS[-1])})
    return TrainConfig(
        data=DataConfig(name="binarized-mnist"),
        model=model,
        beta=LogUniformBetaConfig(low=BETAS[0], high=BETAS[-1]) if beta is None else ConstantBetaConfig(value=beta),
        optimizer=AdamConfig(lr=lr),
        schedule=CosineScheduleConfig(),
        batch_size=128,
        epochs=epochs * scale,
        evaluation=evaluation,
    )


def _point(run: Run, at: str) -> tuple[float, float]:
    """(rate, distortion), nats per datum."""
    return run.metrics[f"{at}/rate"], run.metrics[f"{at}/distortion"]


def _best_rate(runs: Mapping[str, Run], system: str) -> float:
    return max(RATES, key=lambda lr: runs[f"{system}-lr-{lr:g}"].metrics["val/elbo"])


def show(out: Path, scale: float) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    tried = run_all(
        {f"beta-1-lr-{lr:g}": config(1.0, lr, scale) for lr in RATES}
        | {f"multi-rate-lr-{lr:g}": config(None, lr, scale) for lr in RATES},
        out,
    )
    own_lr, multi_lr = (_best_rate(tried, system) for system in ("beta-1", "multi-rate"))
    runs = run_all({f"beta-{beta:g}-lr-{own_lr:g}": config(beta, own_lr, scale) for beta in BETAS}, out)
    separate = dict(zip(BETAS, runs.values(), strict=True))
    longer = config(None, multi_lr, scale, LONGER)
    multi = {
        EPOCHS: tried[f"multi-rate-lr-{multi_lr:g}"],
        LONGER: run_all({f"multi-rate-longer-lr-{multi_lr:g}": longer}, out)[f"multi-rate-longer-lr-{multi_lr:g}"],
    }
    curves = {"β-VAE, ten runs": [_point(run, "test") for run in separate.values()]}
    header, rows = ["β", "rate", "distortion"], [[beta, *_point(run, "test")] for beta, run in separate.items()]
    for epochs, run in multi.items():
        header += [f"MR rate, {epochs} epochs", "MR distortion", "Δ ELBO", "Δ objective"]
        points = [_point(run, f"test/beta_{beta:g}") for beta in BETAS]
        curves[f"MR-VAE, one run of {epochs} epochs"] = points
        for row, beta, (rate, distortion) in zip(rows, BETAS, points, strict=True):
            own_rate, own_distortion = row[1], row[2]
            elbo = own_rate + own_distortion - rate - distortion
            objective = distortion + beta * rate - own_distortion - beta * own_rate
            row += [rate, distortion, f"{elbo:+.2f}", f"{objective:+.2f}"]  # type: ignore[list-item]
    print(table(header, rows))
    seconds = sum(run.seconds for run in separate.values())
    shares = ", ".join(f"{epochs} epochs {run.seconds:.0f} s" for epochs, run in multi.items())
    print(
        f"\nlearning rates: β-VAE {own_lr:g}, MR-VAE {multi_lr:g}; ten runs {seconds:.0f} s, one multi-rate: {shares}"
    )
    figure, axis = plt.subplots(figsize=(5, 3.6), layout="constrained")
    for (name, points), style in zip(curves.items(), ("o", ":", "-"), strict=True):
        axis.plot(*zip(*points, strict=True), style, label=name)
    axis.set_xlabel("rate [nats per datum]")
    axis.set_ylabel("distortion [nats per datum]")
    axis.legend()
    figure.savefig(out / "rate-distortion.png", dpi=110)


if __name__ == "__main__":
    main(__doc__, show)
