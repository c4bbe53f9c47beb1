"""Probes of the posterior means: what is known in closed form, and scikit-learn and loops on the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from torch import Tensor

from tests import linear_model
from tests.linear_model import ENCODER, covariance
from vae_models.data.spec import LabelSpec
from vae_models.evaluation.findings import Value
from vae_models.evaluation.latent.specs import ProbesEvaluation
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.metrics.estimate import Estimate, r_squared

TRAIN, TEST = 3_000, 2_000
NOISE = 0.7  # standard deviation, of what the labels have beside the first mean


def found(subject: Subject, **spec: object) -> dict[str, Value]:
    evaluator = ProbesEvaluation.model_validate(spec)
    return {value.name: value for value in evaluator.build()(subject).values}


def noisy(x: Tensor, seed: int) -> Tensor:
    """The first posterior mean and noise."""
    noise = torch.randn(len(x), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x.double() @ ENCODER.T)[:, 0] + NOISE * noise


def subject_of(make: object, spec: LabelSpec, train: int = TRAIN, test: int = TEST, **plan: object) -> Subject:
    """make: x, seed -> labels."""
    x_train, x_test = linear_model.data(train, 1), linear_model.data(test, 2)
    labels = (make(x_train, 3), make(x_test, 4))  # type: ignore[operator]
    return linear_model.subject(x_test, train=x_train, labels=labels, spec=spec, **plan)


def spread() -> float:
    """Variance of the first posterior mean."""
    return float(ENCODER[0] @ covariance() @ ENCODER[0])


def test_a_class_that_is_a_noisy_half_plane() -> None:
    """The best there can be is 1 - arctan(NOISE / deviation of the mean) / pi; k-NN comes near it from below."""
    values = found(subject_of(lambda x, seed: (noisy(x, seed) > 0).long(), LabelSpec(name="side")))
    best = 1 - math.atan(NOISE / spread() ** 0.5) / math.pi
    linear, nearest = values["probe_linear_accuracy"], values["probe_knn_accuracy"]
    assert linear.error is not None
    assert linear.value == pytest.approx(best, abs=4 * linear.error)
    assert best - 0.05 < nearest.value < best + 4 * linear.error
    assert linear.error == pytest.approx(math.sqrt(linear.value * (1 - linear.value) / (TEST - 1)), rel=1e-9)
    assert "the most frequent class alone has 0.5" in linear.note


def test_a_quantity_with_noise() -> None:
    values = found(subject_of(lambda x, seed: noisy(x, seed).float(), LabelSpec(name="height", unit="m")))
    best = spread() / (spread() + NOISE**2)
    linear = values["probe_linear_r2"]
    assert linear.error is not None
    assert linear.value == pytest.approx(best, abs=4 * linear.error)
    assert best - 0.1 < values["probe_knn_r2"].value < best + 4 * linear.error


def test_an_angle_is_predicted_by_its_cosine_and_sine() -> None:
    """As a number it jumps at pi, and no least squares follows it."""

    def angle(x: Tensor, seed: int) -> Tensor:
        means = x.double() @ ENCODER.T
        return torch.atan2(means[:, 1], means[:, 0]).float()

    by_angle = found(subject_of(angle, LabelSpec(name="turn", unit="rad")))
    assert by_angle["probe_knn_r2"].value > 0.98
    assert "cosine and sine" in by_angle["probe_linear_r2"].note


def test_scikit_learn_on_the_same_numbers() -> None:
    """And a loop over neighbours."""

    def three(x: Tensor, seed: int) -> Tensor:
        return torch.bucketize(noisy(x, seed), torch.tensor([-0.5, 0.5], dtype=torch.float64))

    subject = subject_of(three, LabelSpec(name="third"), train=300, test=200)
    values = found(subject, neighbours=5)
    z, z_test = (x.double().numpy() @ ENCODER.T.numpy() for x in (linear_model.data(300, 1), linear_model.data(200, 2)))
    known, wanted = (three(linear_model.data(n, s), t).numpy() for n, s, t in ((300, 1, 3), (200, 2, 4)))
    centre, scale = z.mean(0), z.std(0)
    learner = LogisticRegression(max_iter=1000).fit((z - centre) / scale, known)
    assert values["probe_linear_accuracy"].value == pytest.approx(
        (learner.predict((z_test - centre) / scale) == wanted).mean(), abs=1 / 200
    )
    votes = [np.bincount(known[np.argsort(((z - one) ** 2).sum(1))[:5]]).argmax() for one in z_test]
    assert values["probe_knn_accuracy"].value == pytest.approx(np.mean(votes == wanted), abs=1e-12)


def test_several_labels_each_by_its_name() -> None:
    def both(x: Tensor, seed: int) -> Tensor:
        side = (noisy(x, seed) > 0).long()
        return torch.stack([side, (x[:, 0] > 0).long()], 1)

    values = found(subject_of(both, LabelSpec(name=("side", "first")), train=200, test=100))
    assert set(values) == {
        f"probe_{learner}_accuracy/{name}" for learner in ("linear", "knn") for name in ("side", "first")
    }


def test_one_of_several_labels_that_cannot_be_learnt_is_left_out() -> None:
    def both(x: Tensor, seed: int) -> Tensor:
        return torch.stack([torch.ones(len(x)).long(), torch.arange(len(x)) % 2], 1)

    subject = subject_of(both, LabelSpec(name=("none", "parity")), train=30, test=30)
    findings = ProbesEvaluation().build()(subject)
    assert {value.name for value in findings.values} == {"probe_linear_accuracy/parity", "probe_knn_accuracy/parity"}
    assert findings.notes == (
        "none was left out: all 30 data of the train split have one none: nothing can be learnt of it",
    )


def test_classes_that_nobody_could_learn_are_counted() -> None:
    subject = subject_of(
        lambda x, seed: torch.arange(len(x)) % (2 if len(x) == 60 else 3), LabelSpec(name="kind"), 60, 30
    )
    values = found(subject)
    assert "10 are of classes that the train split has not" in values["probe_knn_accuracy"].note
    assert values["probe_knn_accuracy"].value < 2 / 3


def test_a_regression_that_is_stopped_says_so() -> None:
    subject = subject_of(lambda x, seed: (noisy(x, seed) > 0).long(), LabelSpec(name="side"), train=500, test=50)
    assert "stopped before it converged" in found(subject, iterations=1)["probe_linear_accuracy"].note


def test_r_squared() -> None:
    """Against scikit-learn's, and its error against that of fresh data."""
    generator = np.random.default_rng(0)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        truth = generator.normal(size=(200, 2)) * [1, 2]
        return truth, truth + generator.normal(size=(200, 2))

    runs: list[Estimate] = []
    for _ in range(300):
        truth, predicted = draw()
        runs.append(r_squared(torch.from_numpy(truth), torch.from_numpy(predicted)))
        flat = r2_score(truth, predicted, multioutput="variance_weighted")
        assert runs[-1].value == pytest.approx(flat, rel=1e-9)
    spread = np.std([run.value for run in runs])
    assert np.mean([run.error for run in runs]) == pytest.approx(spread, rel=0.15)
    with pytest.raises(ValueError, match="truths that differ"):
        r_squared(torch.ones(3, 1), torch.zeros(3, 1))


def test_what_cannot_be_learnt() -> None:
    one_class = subject_of(lambda x, seed: torch.zeros(len(x), dtype=torch.long), LabelSpec(name="side"), 20, 20)
    with pytest.raises(Inapplicable, match="all 20 data of the train split have one side"):
        found(one_class)
    nan = subject_of(lambda x, seed: torch.full((len(x),), torch.nan), LabelSpec(name="side", unit="m"), 20, 20)
    with pytest.raises(Inapplicable, match="labels side of gaussian are not all finite"):
        found(nan)
    with pytest.raises(Inapplicable, match="probes learn from the train split: evaluate val or test"):
        found(subject_of(lambda x, seed: noisy(x, seed), LabelSpec(name="side", unit="m"), 20, 20, split="train"))
    unlabelled = linear_model.subject(linear_model.data(20))
    (why,) = ProbesEvaluation().refusals(unlabelled.config)
    assert why == "it needs labels, and gaussian has none"
