"""Whether the latent dimensions and the known factors of the data go together one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from vae_models import random
from vae_models.evaluation.findings import Findings, Table, Value
from vae_models.evaluation.latent.encoded import at_each_beta, at_least, chosen, how_many, means, sampled
from vae_models.evaluation.latent.factors import Factor, factors, must_differ
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.metrics import disentanglement as scores
from vae_models.metrics.estimate import r_squared

Learner = Literal["random-forest", "gradient-boosting", "lasso"]
BINS = 20  # of each dimension, and of a quantity
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
        found = self._information(subject, beta, rows, z, known)
        found += _Learnt(self.learner, self.trees, subject.plan.seed).findings(z, known)
        if not share:
            return found
        return replace(found, values=tuple(replace(value, note=f"{value.note}; {share}") for value in found.values))

    def _information(
        self, subject: Subject, beta: float | None, rows: Tensor, z: Tensor, known: Sequence[Factor]
    ) -> Findings:
        classes = torch.stack([factor.binned(BINS) for factor in known], 1)
        entropies = torch.tensor([scores.entropy(column) for column in classes.unbind(1)], dtype=torch.float64)
        tables = {"mig_histogram": scores.binned_information(scores.equal_width(z, BINS), classes)}
        if subject.model.bound:
            latent = sampled(subject, beta)
            tables["mig"] = scores.posterior_information(
                latent.sample[rows],
                latent.mean[rows],
                latent.log_std[rows],
                classes,
                memory_mib=subject.plan.memory_mib,
            )
        notes = {"mig_histogram": f"means in {BINS} bins of equal width", "mig": "of one sample of q(z|x) per datum"}
        values = tuple(
            _score(name, float((scores.gaps(table) / entropies).mean()), len(rows), notes[name])
            for name, table in tables.items()
        )
        return Findings(
            values=values,
            tables=tuple(_table(f"information_{name}", table, known, "nats") for name, table in tables.items()),
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
        note = f"by {self.learner}, taught on {len(halves[0]):,} data"
        return Findings(
            values=(
                _score("dci_disentanglement", scores.disentanglement(importance), len(z), note),
                _score("dci_completeness", scores.completeness(importance), len(z), note),
                _score("dci_informativeness", informed, len(z), f"{note}; mean over factors of accuracy or R²"),
                _score("sap", float(scores.gaps(single).mean()), len(z), "linear SVM or R² of each dimension alone"),
            ),
            tables=(_table("dci_importance", importance, known, "1"), _table("sap_scores", single, known, "1")),
        )

    def _importance(self, z: Tensor, known: Sequence[Factor], halves: Sequence[Tensor]) -> tuple[Tensor, float]:
        """Return the importance of each dimension for each factor, and how well all factors are predicted."""
        columns, informed = [], []
        taught, asked = halves
        for factor in known:
            learner = self._new(factor)
            learner.fit(z[taught].numpy(), factor.values[taught].numpy())
            columns.append(_importances(learner))
            informed.append(_predicts(learner, z[asked], factor.at(asked)))
        return torch.stack(columns, 1), sum(informed) / len(informed)

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


def _predicts(learner: Any, z: Tensor, factor: Factor) -> float:
    """Return accuracy of classes, R^2 of a quantity, 0 where the mean would predict better."""
    predicted = torch.from_numpy(learner.predict(z.numpy()))
    if factor.is_class:
        return float((predicted == factor.values).double().mean())
    return max(0.0, r_squared(factor.values[:, None], predicted[:, None]).value)


def _single(z: Tensor, known: Sequence[Factor], halves: Sequence[Tensor], seed: int) -> Tensor:
    """Return SAP's scores: how well each dimension alone predicts each factor, [latent, factors]."""
    from sklearn.linear_model import LinearRegression
    from sklearn.svm import LinearSVC

    taught, asked = halves
    table = torch.zeros(z.shape[1], len(known), dtype=torch.float64)
    for k, factor in enumerate(known):
        for j in range(z.shape[1]):
            settings = {"C": 0.01, "class_weight": "balanced", "random_state": seed % 2**32}
            learner = LinearSVC(**settings) if factor.is_class else LinearRegression()
            learner.fit(z[taught, j : j + 1].numpy(), factor.values[taught].numpy())
            table[j, k] = _predicts(learner, z[asked, j : j + 1], factor.at(asked))
    return table


def _score(name: str, value: float, count: int, note: str) -> Value:
    return Value(name=name, value=value, unit="1", mode="max", count=count, note=note)


def _table(name: str, table: Tensor, known: Sequence[Factor], unit: str) -> Table:
    columns = ("dimension", *(f"{factor.name} [{unit}]" for factor in known))
    return Table(name=name, columns=columns, rows=tuple(_rows(table)))


def _rows(table: Tensor) -> Iterator[tuple[float | int, ...]]:
    for j, row in enumerate(table.tolist()):
        yield (j, *row)
