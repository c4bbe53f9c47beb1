"""What simple learners read off the posterior means: how well the labels of data that they have not seen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vae_models.evaluation.findings import Findings, Value
from vae_models.evaluation.latent.encoded import at_each_beta, at_least, chosen, estimated, how_many, means
from vae_models.evaluation.latent.factors import Factor, chance, factors, must_differ
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.metrics.estimate import Estimate, r_squared

TRAIN = "train"


@dataclass(frozen=True, kw_only=True)
class ProbesEvaluator:
    """Linear and k-NN probes, taught on the train split and asked on the evaluated one, of every column of the labels.

    Linear: logistic regression (L2, C = 1) or least squares, on standardised means. k-NN: Euclidean distance in z.
    Accuracy of classes; R^2 of a quantity, of an angle that of its cosine and sine together. Errors are over the data
    that are asked, the learner given.
    """

    data: int
    neighbours: int
    iterations: int

    def __call__(self, subject: Subject) -> Findings:
        """Return probe_linear_accuracy and probe_knn_accuracy, or ..._r2, with /NAME where there are several labels."""
        if subject.plan.split == TRAIN:
            raise Inapplicable("probes learn from the train split: evaluate val or test")
        return at_each_beta(subject, lambda beta: self._at(subject, beta))

    def _at(self, subject: Subject, beta: float | None) -> Findings:
        taught, asked = subject.count(TRAIN), subject.count()
        at_least(min(taught, asked), 2)
        learn, test = chosen(subject, taught, self.data), chosen(subject, asked, self.data)
        z, z_test = means(subject, TRAIN, beta)[learn], means(subject, beta=beta)[test]
        pairs = list(zip(factors(subject, TRAIN), factors(subject), strict=True))
        share, values, notes = how_many(len(test), asked), list[Value](), list[str]()
        for known, wanted in pairs:
            try:
                values += list(self._values(z, known.at(learn), z_test, wanted.at(test), share, several=len(pairs) > 1))
            except Inapplicable as reason:
                if len(pairs) == 1:
                    raise
                notes.append(f"{known.name} was left out: {reason}")
        return Findings(values=tuple(values), notes=tuple(notes))

    def _values(
        self, z: Tensor, known: Factor, z_test: Tensor, wanted: Factor, share: str, *, several: bool
    ) -> Iterator[Value]:
        must_differ(known, "train split")
        suffix = f"/{known.name}" if several else ""
        estimates = self._class if known.is_class else self._quantity
        for name, estimate, note in estimates(z, known, z_test, wanted):
            notes = "; ".join(part for part in (f"taught on {len(z):,} data", note, share) if part)
            yield estimated(f"probe_{name}{suffix}", estimate, len(z_test), unit="1", mode="max", note=notes)

    def _class(self, z: Tensor, known: Factor, z_test: Tensor, wanted: Factor) -> Iterator[tuple[str, Estimate, str]]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier

        linear = _standardised(LogisticRegression(max_iter=self.iterations))
        for name, learner in (("linear", linear), ("knn", KNeighborsClassifier(self._nearest(z)))):
            predicted, note = _taught(learner, z, known.values, z_test)
            always = f"the most frequent class alone has {chance(wanted):.3f}"
            notes = "; ".join(part for part in (always, _unseen(known, wanted), note) if part)
            yield f"{name}_accuracy", Estimate.mean(predicted == wanted.values), notes

    def _quantity(
        self, z: Tensor, known: Factor, z_test: Tensor, wanted: Factor
    ) -> Iterator[tuple[str, Estimate, str]]:
        from sklearn.linear_model import LinearRegression
        from sklearn.neighbors import KNeighborsRegressor

        must_differ(wanted, "evaluated split")
        what = "of cosine and sine" if known.is_angle else ""
        linear = _standardised(LinearRegression())
        for name, learner in (("linear", linear), ("knn", KNeighborsRegressor(self._nearest(z)))):
            predicted, _ = _taught(learner, z, known.targets(), z_test)
            yield f"{name}_r2", r_squared(wanted.targets(), predicted.reshape(len(z_test), -1)), what

    def _nearest(self, z: Tensor) -> int:
        return min(self.neighbours, len(z))


def _unseen(known: Factor, wanted: Factor) -> str:
    """Return a note on data of classes that nobody could learn; empty where there are none."""
    unseen = int((~torch.isin(wanted.values, known.values)).sum())
    return f"{unseen:,} are of classes that the train split has not" if unseen else ""


def _standardised(learner: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), learner)


def _taught(learner: Any, z: Tensor, known: Tensor, z_test: Tensor) -> tuple[Tensor, str]:
    """Return what it predicts, and a note where it had not converged."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        learner.fit(z.numpy(), known.numpy())
    stopped = any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return torch.from_numpy(learner.predict(z_test.numpy())), "stopped before it converged" if stopped else ""
