"""Whether the latent dimensions and the known factors of the data go together one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from vae_models import random
from vae_models.evaluation.findings import Findings, Table, Value
from vae_models.evaluation.latent.encoded import at_each_beta, at_least, chosen, estimated, how_many, means, sampled
from vae_models.evaluation.latent.factors import Factor, factors, must_differ
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.metrics import disentanglement as scores
from vae_models.metrics.estimate import Estimate, r_squared_parts

Learner = Literal["random-forest", "gradient-boosting", "lasso"]
BINS = 20  # of each dimension, and of a quantity
NOTES = {"mig_histogram": f"means in {BINS} bins of equal width", "mig": "of one sample of q(z|x) per datum"}
LEAST = 20  # data: half of them are asked


@dataclass(frozen=True, kw_only=True)
class DisentanglementEvaluator:
    """MIG, DCI and SAP of the labels' columns, of at most `data` data of the evaluated split.

    mig_histogram: of the means in 20 bins (Locatello et al. 2019); mig: of q(z|x) itself (Chen et al. 2018). Learners
    are taught on one half of the data, drawn by the plan's seed, and asked on the other. Quantities are cut into 20
    bins of about as many data where information is measured, and regressed where they are predicted.
    """

    data: int
    learner: Learner
    trees: int

    def __call__(self, subject: Subject) -> Findings:
        """Return the scores, and what each dimension tells of each factor."""
        return at_each_beta(subject, lambda beta: self._at(subject, beta))

    def _at(self, subject: Subject, beta: float | None) -> Findings:
        total = subject.count()
        rows = chosen(subject, total, self.data)
        at_least(len(rows), LEAST)
        z, known = means(subject, beta=beta)[rows], [factor.at(rows) for factor in factors(subject)]
        known = [factor for factor in known if bool((factor.values != factor.values[0]).any())]
        if len(known) < 2:
            raise Inapplicable(f"fewer than two labels of {subject.config.data.name} differ among the data")
        share = how_many(len(rows), total)
        findings = self._information(subject, beta, rows, z, known)
        findings += _Learnt(self.learner, self.trees, subject.plan.seed).findings(z, known)
        if not share:
            return findings
        return replace(
            findings, values=tuple(replace(value, note=f"{value.note}; {share}") for value in findings.values)
        )

    def _information(
        self, subject: Subject, beta: float | None, rows: Tensor, z: Tensor, known: Sequence[Factor]
    ) -> Findings:
        classes = torch.stack([factor.binned(BINS) for factor in known], 1)
        surprisals = scores.surprisal(classes)
        information = {"mig_histogram": scores.binned_information(scores.equal_width(z, BINS), classes)}
        if subject.model.bound:
            latent = sampled(subject, beta)
            information["mig"] = scores.posterior_information(
                latent.sample[rows], latent.mean[rows], latent.log_std[rows], classes,
                memory_mib=subject.plan.memory_mib,
            )  # fmt: skip
        return Findings(
            values=tuple(
                _score(name, scores.information_gap(each, surprisals), len(rows), NOTES[name])
                for name, each in information.items()
            ),
            tables=tuple(
                _table(f"information_{name}", each.mean(0), known, "nats") for name, each in information.items()
            ),
        )


@dataclass(frozen=True)
class _Learnt:
    """DCI and SAP, which ask learners. seed: which half is taught, and of the learners."""

    learner: Learner
    trees: int
    seed: int

    def findings(self, z: Tensor, known: Sequence[Factor]) -> Findings:
        order = random.permutation(len(z), seed=self.seed, epoch=0, stream="evaluation/latent/halves")
        halves = order.chunk(2)
        for factor in known:
            for half in halves:
                must_differ(factor.at(half), "half of the data")
        scaled = (z - z[halves[0]].mean(0)) / z[halves[0]].std(0).clamp(min=torch.finfo(z.dtype).tiny)
        importance, informed = self._importance(scaled, known, halves)
        single = _single(scaled, known, halves, self.seed)
        note, count = f"by {self.learner}, taught on {len(halves[0]):,} data", len(halves[1])
        concentrated = Estimate(value=scores.disentanglement(importance), error=None)
        complete = Estimate(value=scores.completeness(importance), error=None)
        return Findings(
            values=(
                _score("dci_disentanglement", concentrated, len(z), note),
                _score("dci_completeness", complete, len(z), note),
                _score("dci_informativeness", informed, count, f"{note}; mean over factors of accuracy or R²"),
                _score("sap", scores.score_gap(single), count, "linear SVM or R² of each dimension alone"),
            ),
            tables=(
                _table("dci_importance", importance, known, "1"),
                _table("sap_scores", single.mean(0), known, "1"),
            ),
        )

    def _importance(self, z: Tensor, known: Sequence[Factor], halves: Sequence[Tensor]) -> tuple[Tensor, Estimate]:
        """Return the importance of each dimension for each factor, and how well all factors are predicted."""
        columns, informed = [], []
        taught, asked = halves
        for factor in known:
            learner = self._new(factor)
            learner.fit(z[taught].numpy(), factor.values[taught].numpy())
            columns.append(_importances(learner))
            informed.append(_predicts(learner, z[asked], factor.at(asked)))
        return torch.stack(columns, 1), Estimate.mean(torch.stack(informed).mean(0))

    def _new(self, factor: Factor) -> Any:
        from sklearn import ensemble, linear_model

        seeded = {"random_state": self.seed % 2**32}
        if self.learner == "lasso" and factor.is_class:
            return linear_model.LogisticRegression(l1_ratio=1.0, solver="saga", C=1.0, max_iter=200, **seeded)
        if self.learner == "lasso":
            return linear_model.Lasso(alpha=0.02, **seeded)
        forest = self.learner == "random-forest"
        kinds = {
            (True, True): ensemble.RandomForestClassifier, (True, False): ensemble.RandomForestRegressor,
            (False, True): ensemble.GradientBoostingClassifier, (False, False): ensemble.GradientBoostingRegressor,
        }  # fmt: skip
        return kinds[forest, factor.is_class](n_estimators=self.trees, **seeded)


def _importances(learner: Any) -> Tensor:
    """Return a forest's importances, or the absolute coefficients of a linear model, summed over classes."""
    if hasattr(learner, "feature_importances_"):
        return torch.from_numpy(learner.feature_importances_).double()
    coefficients = torch.from_numpy(learner.coef_).double().abs()
    return coefficients.sum(0) if coefficients.ndim == 2 else coefficients


def _predicts(learner: Any, z: Tensor, factor: Factor) -> Tensor:
    """Return what each datum adds to the accuracy of classes, or to R^2 of a quantity: its mean is the score.

    R^2 is 0 where the mean would predict better.
    """
    predicted = torch.from_numpy(learner.predict(z.numpy()))
    if factor.is_class:
        return (predicted == factor.values).double()
    parts = r_squared_parts(factor.values[:, None], predicted[:, None])
    return parts if float(parts.mean()) > 0 else torch.zeros_like(parts)


def _single(z: Tensor, known: Sequence[Factor], halves: Sequence[Tensor], seed: int) -> Tensor:
    """Return SAP's scores: how well each dimension alone predicts each factor, [asked, latent, factors]."""
    from sklearn.linear_model import LinearRegression
    from sklearn.svm import LinearSVC

    taught, asked = halves
    table = torch.zeros(len(asked), z.shape[1], len(known), dtype=torch.float64)
    for k, factor in enumerate(known):
        for j in range(z.shape[1]):
            settings = {"C": 0.01, "class_weight": "balanced", "random_state": seed % 2**32}
            learner = LinearSVC(**settings) if factor.is_class else LinearRegression()
            learner.fit(z[taught, j : j + 1].numpy(), factor.values[taught].numpy())
            table[:, j, k] = _predicts(learner, z[asked, j : j + 1], factor.at(asked))
    return table


def _score(name: str, score: Estimate, count: int, note: str) -> Value:
    return estimated(name, score, count, unit="1", mode="max", note=note)


def _table(name: str, table: Tensor, known: Sequence[Factor], unit: str) -> Table:
    columns = ("dimension", *(f"{factor.name} [{unit}]" for factor in known))
    return Table(name=name, columns=columns, rows=tuple(_rows(table)))


def _rows(table: Tensor) -> Iterator[tuple[float | int, ...]]:
    for j, row in enumerate(table.tolist()):
        yield (j, *row)
