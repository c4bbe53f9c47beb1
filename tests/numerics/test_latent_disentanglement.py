"""MIG, DCI and SAP: factors that the means have one by one, or mixed; closed forms, scipy, scikit-learn and loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import entropy, norm
from sklearn.metrics import mutual_info_score
from torch import Tensor

from tests import linear_model
from vae_models.data.spec import LabelSpec
from vae_models.evaluation.findings import Value
from vae_models.evaluation.latent.factors import Factor
from vae_models.evaluation.latent.specs import DisentanglementEvaluation
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.metrics import disentanglement as scores

COUNT = 1_000
FIRST_TWO = torch.eye(2, 4, dtype=torch.float64)
TURNED = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / 2**0.5 @ FIRST_TWO
NARROW = torch.full((2,), 0.02, dtype=torch.float64)
ALL = {"mig_histogram", "mig", "dci_disentanglement", "dci_completeness", "dci_informativeness", "sap"}


def factors(count: int, levels: int, seed: int = 0) -> Tensor:
    """Two independent classes."""
    return torch.randint(levels, (count, 2), generator=torch.Generator().manual_seed(seed))


def subject(labels: Tensor, encoder: Tensor = FIRST_TWO, **plan: object) -> Subject:
    """x has the two labels in its first two elements, of variance about 1, and nothing in the others."""
    x = torch.zeros(len(labels), 4)
    x[:, :2] = (labels - labels.double().mean(0)) / labels.double().std(0)
    spec = LabelSpec(name=("shape", "size"), unit="m" if labels.is_floating_point() else None)
    return linear_model.subject(x, encoder=encoder, std=NARROW, labels=(None, labels), spec=spec, **plan)


def found(subject: Subject, **spec: object) -> dict[str, Value]:
    evaluator = DisentanglementEvaluation.model_validate(spec)
    return {value.name: value for value in evaluator.build()(subject).values}


@pytest.mark.parametrize("learner", ["random-forest", "gradient-boosting", "lasso"])
def test_one_dimension_for_each_class(learner: str) -> None:
    values = found(subject(factors(COUNT, 3)), learner=learner, trees=20)
    assert set(values) == ALL
    for name in ALL - {"sap"}:
        assert values[name].value == pytest.approx(1, abs=0.05), name
    assert 0.5 < values["sap"].value <= 1 - 1 / 3 + 0.1  # the other dimension guesses a third
    assert learner in values["dci_disentanglement"].note


@pytest.mark.parametrize("learner", ["random-forest", "lasso"])
def test_both_dimensions_for_each_factor(learner: str) -> None:
    """A plane that is turned by 45 degrees: all is known, and nothing of it by one dimension."""
    values = found(subject(factors(COUNT, 3), TURNED), learner=learner, trees=20)
    for name in ALL - {"dci_informativeness"}:
        assert values[name].value < 0.15, name
    assert values["dci_informativeness"].value > 0.95


def test_quantities() -> None:
    labels = torch.rand(COUNT, 2, generator=torch.Generator().manual_seed(0))
    straight, turned = (found(subject(labels, encoder)) for encoder in (FIRST_TWO, TURNED))
    for name in ("sap", "dci_disentanglement", "dci_completeness", "dci_informativeness"):
        assert straight[name].value > 0.95, name
    assert straight["mig_histogram"].value > 0.75
    assert straight["mig"].value > 0.7  # 50 narrow posteriors for each of 20 bins: the second best is overestimated
    for name in ALL - {"dci_informativeness"}:
        assert turned[name].value < 0.15, name


def test_order_and_memory_change_nothing_where_no_learner_asks() -> None:
    """Learners are taught on the half that the seed draws by place: they change within their error."""
    labels = factors(400, 4)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    first, second = found(subject(labels, TURNED)), found(subject(labels[order], TURNED))
    assert second["mig_histogram"].value == pytest.approx(first["mig_histogram"].value, abs=1e-12)
    for name in ("sap", "dci_disentanglement", "dci_informativeness"):
        assert second[name].value == pytest.approx(first[name].value, abs=0.1), name


def test_binned_information() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(300, 3, generator=generator, dtype=torch.float64)
    values[:, 2] = 5.0  # a column of one value
    classes = torch.stack([values[:, 0] > 0, torch.rand(300, generator=generator) > 0.5], 1).long()
    bins = scores.equal_width(values, 20)
    for column in range(2):
        edges = np.histogram(values[:, column], 20)[1]
        np.testing.assert_array_equal(bins[:, column], np.digitize(values[:, column], edges[:-1]) - 1)
    assert bins[:, 2].unique().tolist() == [0]
    table = scores.binned_information(bins, classes).mean(0)
    expected = [[mutual_info_score(b, c) for c in classes.T.numpy()] for b in bins.T.numpy()]
    np.testing.assert_allclose(table, expected, atol=1e-12)
    shares = np.bincount(classes[:, 0].numpy()) / 300
    assert float(scores.surprisal(classes)[:, 0].mean()) == pytest.approx(entropy(shares), rel=1e-12)


def test_posterior_information_in_closed_form() -> None:
    """Two classes whose posteriors are N(-1, 1) and N(1, 1): the integral over z."""
    count = 2_000
    classes = torch.arange(count)[:, None] % 2
    means = (2.0 * classes - 1).double()
    noise = torch.randn(count, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table = scores.posterior_information(means + noise, means, torch.zeros_like(means), classes)

    def integrand(z: float) -> float:
        mixture = (norm.pdf(z, -1) + norm.pdf(z, 1)) / 2
        return float(norm.pdf(z, 1) * np.log(norm.pdf(z, 1) / mixture))

    assert float(table.mean()) == pytest.approx(quad(integrand, -8, 8)[0], abs=0.05)


def test_posterior_information_by_loops_and_in_blocks() -> None:
    generator = torch.Generator().manual_seed(0)
    z, means, log_stds = (torch.randn(400, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    classes = torch.randint(3, (400, 1), generator=generator) * 7  # classes need not be 0, 1, 2
    table = scores.posterior_information(z, means, log_stds, classes, memory_mib=1).mean(0)  # blocks of 81 data
    for j in range(2):
        total = 0.0
        for i in range(400):
            each = norm.pdf(z[i, j], means[:, j].numpy(), log_stds[:, j].exp().numpy())
            total += np.log(each[(classes[:, 0] == classes[i, 0]).numpy()].mean() / each.mean()) / 400
        assert float(table[j, 0]) == pytest.approx(total, rel=1e-10)


def test_scores_of_a_table_by_hand() -> None:
    table = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    assert scores.score_gap(table[None]).value == (2 + 1) / 2
    halves = torch.stack([0.5 * table, 1.5 * table])  # of two data
    expected = (2 / 4 + 1 / 2) / 2
    assert scores.information_gap(halves, torch.tensor([[3.0, 1.0], [5.0, 3.0]]).double()).value == expected
    assert scores.disentanglement(table) == pytest.approx((3 * 1 + 2 * 0) / 5)  # the third has no weight
    expected = np.mean([1 - entropy([3, 1, 0], base=3), 1.0])
    assert scores.completeness(table) == pytest.approx(expected, rel=1e-12)
    assert scores.score_gap(table[None, :1]).value == 3 / 2  # there is no second dimension
    assert scores.completeness(table[1:2]) == 1


def test_bins_of_a_quantity() -> None:
    values = torch.rand(1_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    bins = Factor(name="a", values=values).binned(20)
    assert torch.bincount(bins).tolist() == [50] * 20
    assert (bins[values.argsort()].diff() >= 0).all()
    few = Factor(name="a", values=torch.tensor([0.5, 2.5, 0.5]))
    assert few.binned(20).tolist() == [0, 1, 0]


def test_a_share_is_named() -> None:
    values = found(subject(factors(200, 2)), data=50)
    assert all("50 of 200 data" in value.note for value in values.values())
    assert {name: value.count for name, value in values.items() if value.count != 50} == {
        "dci_informativeness": 25, "sap": 25,
    }  # fmt: skip


def test_what_cannot_be_compared() -> None:
    (why,) = DisentanglementEvaluation().refusals(linear_model.subject(linear_model.data(3)).config)
    assert why == "it compares two factors or more, and the labels of gaussian are none"
    with pytest.raises(Inapplicable, match="at least 20 data, and there are 10"):
        found(subject(factors(10, 2)))
    constant = factors(30, 2)
    constant[:, 1] = 1
    x = linear_model.data(30)
    spec = LabelSpec(name=("shape", "size"))
    with pytest.raises(Inapplicable, match="fewer than two labels of gaussian differ"):
        found(linear_model.subject(x, labels=(None, constant), spec=spec))


def test_errors_are_those_of_repetition() -> None:
    """Over fresh data: of a plane that is turned a little, where no score is at its limit."""
    turned = torch.tensor([[1.0, 0.4], [-0.4, 1.0]], dtype=torch.float64) @ FIRST_TWO
    runs = []
    for seed in range(60):
        labels = torch.rand(400, 2, generator=torch.Generator().manual_seed(seed))
        runs.append(found(subject(labels, turned), trees=1))
    for name in ("mig_histogram", "sap"):
        spread = np.std([run[name].value for run in runs], ddof=1)
        assert np.mean([run[name].error for run in runs]) == pytest.approx(spread, rel=0.3), name
