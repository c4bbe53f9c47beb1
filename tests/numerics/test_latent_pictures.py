"""The angle's fit and the pictures of the latent, from models whose latent is known."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from torch import Tensor

from tests import linear_model, subjects
from vae_models.data.spec import LabelSpec
from vae_models.evaluation.findings import Findings, Picture
from vae_models.evaluation.latent.specs import AngleEvaluation, LatentEvaluation, ScatterEvaluation
from vae_models.evaluation.subject import Inapplicable, Subject

PLANE = torch.eye(2, 4, dtype=torch.float64)


def ring(count: int, wide: float = 1.0) -> tuple[Tensor, Tensor]:
    """x on an ellipse about (0.3, -0.8), and its angle."""
    angles = torch.linspace(-math.pi, math.pi, count + 1)[:-1]
    x = torch.zeros(count, 4)
    x[:, 0], x[:, 1] = 0.3 + 1.7 * wide * angles.cos(), -0.8 + 1.7 * angles.sin()
    return x, angles


def ring_subject(wide: float = 1.0, count: int = 300) -> Subject:
    x, angles = ring(count, wide)
    spec = LabelSpec(name="angle", unit="rad")
    return linear_model.subject(x, encoder=PLANE, labels=(None, angles), spec=spec)


def size(picture: Picture) -> tuple[int, int]:
    """Width and height, of a PNG that is not one colour; its SVG is there too."""
    image = Image.open(io.BytesIO(picture.png))
    assert len(image.convert("RGB").getcolors(2**24)) > 10
    assert picture.svg is not None
    assert picture.svg.startswith(b"<?xml")
    return image.size


def scatter(subject: Subject, **spec: object) -> Findings:
    return ScatterEvaluation.model_validate(spec).build()(subject)


def test_a_perfect_ring() -> None:
    findings = AngleEvaluation().build()(ring_subject())
    values = {value.name: value for value in findings.values}
    assert values["angle_radius"].value == pytest.approx(1.7, abs=1e-6)
    assert values["angle_off_circle"].value == pytest.approx(0, abs=1e-6)
    assert values["angle_ols_slope"].value == pytest.approx(1, abs=1e-3)
    for name in ("angle_ols_error", "angle_angular_error"):
        assert values[name].value == pytest.approx(0, abs=1e-3)
        assert values[name].unit == "rad"
    assert values["angle_neighbour_error"].value == pytest.approx(2 * math.pi / 300, rel=1e-3)
    assert size(findings.pictures[0])[0] > 1_000


def test_an_ellipse_is_no_circle_and_its_error_is_stated() -> None:
    values = {value.name: value for value in AngleEvaluation().build()(ring_subject(wide=0.5)).values}
    error = values["angle_angular_error"]
    assert error.error is not None
    assert error.value > 0.1
    assert error.error < error.value / 10
    assert values["angle_off_circle"].value > 0.2


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        (lambda: subjects.digits(latent=2), "one label is an angle in rad, and digits has digit"),
        (lambda: linear_model.subject(linear_model.data(3)), "one label is an angle in rad, and gaussian has none"),
        (lambda: subjects.digits(latent=3), "needs a latent of 2 dimensions, and there are 3"),
    ],
)
def test_angle_refused(subject: object, reason: str) -> None:
    assert any(reason in why for why in AngleEvaluation().refusals(subject().config))  # type: ignore[operator]


def test_no_circle_through_a_line() -> None:
    x, angles = ring(30)
    x[:, 1] = 0
    spec = LabelSpec(name="angle", unit="rad")
    with pytest.raises(Inapplicable, match="no circle goes through them"):
        AngleEvaluation().build()(linear_model.subject(x, encoder=PLANE, labels=(None, angles), spec=spec))


def test_principal_components() -> None:
    """The share of the plane against scikit-learn's; both pictures in the same bytes twice."""
    subject = subjects.digits(latent=5, limit=120)
    findings = scatter(subject, prior=20)
    (share,) = findings.values
    fitted = PCA(2).fit(subject.posteriors().mean.numpy())
    assert share.value == pytest.approx(fitted.explained_variance_ratio_.sum(), rel=1e-9)
    assert [picture.name for picture in findings.pictures] == ["latent_pca", "latent_tsne"]
    for picture in findings.pictures:
        size(picture)
        assert b">digit<" in (picture.svg or b"")  # the legend's title
    assert scatter(subject, prior=20).pictures == findings.pictures


def test_a_plane_is_drawn_as_it_is() -> None:
    (picture,) = scatter(ring_subject()).pictures
    assert picture.name == "latent_plane"
    assert b"angle [rad]" in (picture.svg or b"")
    size(picture)


@pytest.mark.parametrize("latent", [1, 3])
def test_without_labels(latent: int) -> None:
    encoder = torch.eye(latent, 4, dtype=torch.float64)
    std = torch.ones(latent, dtype=torch.float64)
    findings = scatter(linear_model.subject(linear_model.data(40), encoder=encoder, std=std), tsne=False)
    size(findings.pictures[0])


def test_many_classes_are_coloured_by_number() -> None:
    x, labels = linear_model.data(200), torch.arange(200) % 50
    subject = linear_model.subject(x, labels=(None, labels), spec=LabelSpec(name="kind"))
    (picture,) = scatter(subject).pictures
    svg = (picture.svg or b"").decode()
    assert svg.count(">kind<") == 1  # a bar, and no legend of fifty lines
    assert ">49<" not in svg


def test_few_points_and_collapsed_means() -> None:
    with pytest.raises(Inapplicable, match="at least 3 data, and there are 2"):
        scatter(linear_model.subject(linear_model.data(2)))
    collapsed = linear_model.subject(
        linear_model.data(9), encoder=torch.zeros(3, 4, dtype=torch.float64), std=torch.ones(3)
    )
    with pytest.raises(Inapplicable, match="means of all data are the same"):
        scatter(collapsed)


def test_spectrum_of_the_kl() -> None:
    findings = LatentEvaluation().build()(subjects.digits(latent=6, limit=50))
    (picture,) = findings.pictures
    assert picture.name == "kl_spectrum"
    size(picture)
    assert np.all(np.diff([row[3] for row in findings.tables[0].rows]) <= 0)
