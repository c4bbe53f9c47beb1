"""What the NLL costs: 500 samples for each of 10,000 MNIST images by the evaluator, and by loops that encode each time.

    python -m tests.benchmarks.nll [--data 10000] [--samples 500] [--share 0.02] [--threads 2]

The model is the fully connected one of `binarized-mnist/beta-vae-mlp`, untrained: speed does not depend on the weights.
Seconds are processor time. The loops are timed over a share of the samples, in proportion; the evaluator over all of
them. "batches": the whole model on as many images at a time as the memory of the evaluator's passes has room for; "all
at once": on all images at a time; "single": on one image at a time. Each loop keeps a running log-sum-exp. Memory is
what the process grew by. Without MNIST (VAESVC_DATA_DIR) the digits of scikit-learn are taken.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from tests import high_water
from vae_models import data
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.evaluation.likelihood.estimate import IN_CACHE_MIB
from vae_models.evaluation.likelihood.nll import NllEvaluator
from vae_models.evaluation.memory import MIB, rows_within
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Subject
from vae_models.metrics.importance import RunningWeights, log_weights
from vae_models.recipes import catalogue


def subject_of(count: int) -> Subject:
    config = catalogue()["binarized-mnist/beta-vae-mlp"].build()
    try:
        config = config.model_copy(update={"data": DataConfig(name="mnist", binarize="dynamic")})
        dataset = data.load(config.data)
    except data.DataMissing:
        config = config.model_copy(update={"data": DataConfig(name="digits", binarize="dynamic")})
        dataset = data.load(config.data)
    torch.manual_seed(0)
    model = config.model.build(dataset.shape)
    return Subject(model, TrainConfig.model_validate(config.model_dump()), dataset, EvaluationPlan(limit=count))


def loop(subject: Subject, x: Tensor, batch: int, samples: int) -> Callable[[], None]:
    """A pass of the whole model for each sample of each batch."""

    def run() -> None:
        for images in x.split(batch):
            weights = RunningWeights(len(images))
            for _ in range(samples):
                noise = {"z": torch.randn(len(images), subject.config.model.dimensions())}
                with torch.no_grad():
                    weights.add(log_weights(subject.model(images, noise)))
            weights.log_mean()

    return run


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of processor time, which other programs disturb less, and MiB that the process grew by."""
    start = time.process_time()
    mib = high_water.grown_by(work) if high_water.is_known() else float("nan")
    return time.process_time() - start, mib


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--share", type=float, default=0.02, help="of the samples, that a loop is timed over")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    subject = subject_of(arguments.data)
    count, few = subject.count(), max(1, round(arguments.share * arguments.samples))
    name = subject.config.data.name
    print(f"{count} images of {name}, k = {arguments.samples}, torch {torch.__version__}, {arguments.threads} threads")
    NllEvaluator(samples=1)(subject)  # what is loaded once is loaded
    ours, mib = timed(lambda: NllEvaluator(samples=arguments.samples)(subject))
    print(f"{'evaluator':12} {ours:9.1f} s   {mib:7.1f} MiB")
    x = (subject.dataset.test.x[:count] > 127).float()
    z = {"z": torch.randn(count, subject.config.model.dimensions())}
    batch = rows_within(IN_CACHE_MIB * MIB, lambda rows: subject.model(x[:rows], {"z": z["z"][:rows]}))
    for name, images, size in (("batches", x, batch), ("all at once", x, count), ("single", x[: count // 100], 1)):
        loop(subject, images[:size], size, 1)()
        seconds, mib = timed(loop(subject, images, size, few))
        whole = seconds * arguments.samples / few * count / len(images)
        print(
            f"{name:12} {whole:9.1f} s   {mib:7.1f} MiB   {whole / ours:5.2f} times the evaluator's, {size} at a time"
        )


if __name__ == "__main__":
    main()
