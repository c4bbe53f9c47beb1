"""What the evaluator of pictures draws: sizes, order, the same bytes again, and the numbers beside the pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests import subjects
from vae_models import data
from vae_models.backbones.specs import MLPConfig
from vae_models.config.train import TrainConfig
from vae_models.evaluation.findings import Findings, NotFinite, Picture
from vae_models.evaluation.fitting.specs import SamplersEvaluation
from vae_models.evaluation.pictures.histories import histories
from vae_models.evaluation.pictures.nearest import _nearest
from vae_models.evaluation.pictures.specs import PicturesEvaluation
from vae_models.evaluation.specs import EVALUATORS, EvaluationPlan
from vae_models.evaluation.subject import Subject
from vae_models.likelihoods.specs import CategoricalConfig, GaussianConfig
from vae_models.metrics.pictures import GROUP_PIXELS, PADDING_PIXELS
from vae_models.topologies.vae.specs import GatingConfig, ModelConfig
from vae_models.training import history

TILE, STEP = 64, 64 + PADDING_PIXELS  # 8 x 8 digits, enlarged


def found(subject: Subject, **settings: int) -> Findings:
    small = {"columns": 4, "rows": 2, "dimensions": 3, "steps": 5, "samples": 3, "nearest": 2, "compared": 9}
    return PicturesEvaluation.model_validate(small | settings).build()(subject)


def named(findings: Findings) -> Mapping[str, Picture]:
    return {picture.name: picture for picture in findings.pictures}


def pixels(picture: Picture) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(picture.png)) as image:
        return np.asarray(image)


def tile(picture: Picture, row: int, column: int, *, columns: int, group: int) -> NDArray[np.uint8]:
    """A tile of a grid with labels to the left of it, and none above."""
    canvas = pixels(picture)
    left = canvas.shape[1] - (columns - column) * STEP
    top = PADDING_PIXELS + row * STEP + row // group * GROUP_PIXELS
    return canvas[top : top + TILE, left : left + TILE]


def drawn(image: torch.Tensor) -> NDArray[np.uint8]:
    levels = image.detach().double().clamp(0, 1).mul(255).round().to(torch.uint8)[0]
    return levels.repeat_interleave(8, 0).repeat_interleave(8, 1).numpy()


def test_a_model_of_images_has_its_pictures_and_they_stay_the_same() -> None:
    one, other = found(subjects.digits(batch_size=512)), found(subjects.digits(batch_size=7))
    assert list(named(one)) == ["reconstructions", "traversals", "variance-maps", "nearest/prior"]
    assert [picture.png for picture in one.pictures] == [picture.png for picture in other.pictures]
    assert all(picture.caption.endswith(".") for picture in one.pictures)


def test_originals_stand_over_their_reconstructions() -> None:
    subject = subjects.digits()
    picture = named(found(subject))["reconstructions"]
    x = subject.data(torch.arange(8))
    for datum in range(8):
        row, column = datum // 4 * 2, datum % 4
        np.testing.assert_array_equal(tile(picture, row, column, columns=4, group=2), drawn(x[datum]))
    noise = subject.draw(subject.model.noise(), 8, stream="test/reconstruction")
    means = subject.model(x, noise).mean
    np.testing.assert_array_equal(tile(picture, 3, 1, columns=4, group=2), drawn(means[5]))
    assert len(pixels(picture)) == 4 * STEP + GROUP_PIXELS + PADDING_PIXELS


def test_the_most_active_dimension_is_traversed_first() -> None:
    subject = subjects.digits()
    means = subject.posteriors().mean
    log_std = subject.posteriors().log_std
    assert log_std is not None
    order = sorted(range(4), key=lambda j: -float(means[:, j].var()))
    spread = (means.var(0, unbiased=False) + (2 * log_std).exp().mean(0)).sqrt()
    picture = named(found(subject))["traversals"]
    canvas = pixels(picture)
    for row, j in enumerate(order[:3]):
        for column, place in enumerate((-2.0, -1.0, 0.0, 1.0, 2.0)):
            z = means[:1].clone()
            z[0, j] = means[:, j].mean() + place * spread[j]
            top, left = len(canvas) - (3 - row) * STEP, canvas.shape[1] - (5 - column) * STEP
            expected = drawn(subject.space.decode(z)[0]).astype(int)
            assert abs(canvas[top : top + TILE, left : left + TILE].astype(int) - expected).max() <= 1  # of rounding


def test_a_multi_rate_model_is_shown_over_beta() -> None:
    subject = subjects.digits(gating=GatingConfig(), betas=(0.1, 2.0))
    pictures = named(found(subject))
    assert len(pixels(pictures["reconstructions-beta"])) == 3 * STEP + PADDING_PIXELS  # x, and the plan's two
    own = named(found(subjects.digits(gating=GatingConfig())))["reconstructions-beta"]
    assert len(pixels(own)) == 6 * STEP + PADDING_PIXELS  # five over the range


# --- nearest training data ------------------------------------------------------------------------------------------


def test_the_nearest_are_the_nearest_of_all() -> None:
    subject = subjects.digits(batch_size=100)
    train = subject.data(torch.arange(subject.count("train")), "train").flatten(1)
    points = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distances, places = _nearest(subject, points, 4)
    every = (points.flatten(1)[:, None] - train[None]).norm(dim=2)
    expected, order = every.sort(1)
    torch.testing.assert_close(distances.double(), expected[:, :4], rtol=1e-6, atol=1e-6)
    assert torch.equal(places, order[:, :4])


def test_a_copy_is_found_beside_its_original() -> None:
    subject = subjects.digits()
    distances, places = _nearest(subject, subject.data(torch.tensor([3, 1200]), "train"), 1)
    assert places.flatten().tolist() == [3, 1200]
    assert float(distances.max()) < 1e-6


def test_distances_have_those_of_reconstructions_beside_them() -> None:
    by_name = {value.name: value for value in found(subjects.digits()).values}
    assert set(by_name) == {"nearest_train_distance/prior", "nearest_train_distance/reconstructions"}
    assert by_name["nearest_train_distance/prior"].count == 9
    assert "1,297 training data" in by_name["nearest_train_distance/prior"].note


# --- other data and models ------------------------------------------------------------------------------------------


def subject_of(tmp_path: Path, shape: tuple[int, ...], axes: list[str]) -> Subject:
    """Real numbers of any shape: a set of one's own."""
    facts = {"shape": shape, "axes": axes, "support": "reals", "sizes": [20, 5, 6]}
    model = ModelConfig(latent=2, backbone=MLPConfig(hidden=(4,)), likelihood=GaussianConfig())
    config = TrainConfig.model_validate(
        {"data": {"name": "own", "digest": "0" * 64, "facts": facts}, "model": model, "steps": 1, "dtype": "float64"}
    )
    generator = torch.Generator().manual_seed(0)
    splits = [data.Split(x=torch.randn(n, *shape, generator=generator)) for n in (20, 5, 6)]
    dataset = data.Dataset(name="own", train=splits[0], val=splits[1], test=splits[2], shape=shape)
    torch.manual_seed(0)
    return Subject(config.model.build(shape).double(), config, dataset, EvaluationPlan())


IMAGE = ["channel", "height", "width"]


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((7,), ["feature"]), ((4, 3), ["time", "feature"]), ((2, 1, 5, 5), ["time", *IMAGE])],
)
def test_vectors_and_sequences_are_maps_and_videos_are_tiles(
    shape: tuple[int, ...], axes: list[str], tmp_path: Path
) -> None:
    pictures = named(found(subject_of(tmp_path, shape, axes)))
    assert set(pictures) == {"reconstructions", "traversals", "variance-maps", "nearest/prior"}
    maps = {name for name, picture in pictures.items() if picture.svg is not None}
    assert maps == ({"variance-maps"} if len(shape) == 4 else set(pictures))


def test_few_data_fill_one_row() -> None:
    picture = named(found(subjects.digits(limit=3)))["reconstructions"]
    assert len(pixels(picture)) == 2 * STEP + PADDING_PIXELS


def test_a_mass_has_variance_maps_too() -> None:
    assert "variance-maps" in named(found(subjects.digits(likelihood=CategoricalConfig(), dtype="float32")))


def test_samples_of_vectors_are_one_map(tmp_path: Path) -> None:
    findings = SamplersEvaluation(shown=12).build()(subject_of(tmp_path, (7,), ["feature"]))
    for picture in findings.pictures:
        assert picture.svg is not None
        assert max(pixels(picture).shape) < 2000


@pytest.mark.parametrize("kind", ["pictures", "reconstruction", "interpolation"])
def test_a_model_that_is_not_finite_is_named_and_not_drawn(kind: str) -> None:
    subject = subjects.digits(limit=20)
    with torch.no_grad():
        next(subject.space.backbone.decoder.parameters()).fill_(torch.nan)  # type: ignore[attr-defined]
    with pytest.raises(NotFinite, match="NaN or infinite"):
        EVALUATORS.get(kind).model_validate({}).build()(subject)


# --- history --------------------------------------------------------------------------------------------------------


def test_what_moved_is_drawn_and_what_did_not_is_not() -> None:
    still = {"train/beta": [(1, 1.0), (2, 1.0)], "val/rate": [(2, 3.0)]}
    assert histories(still) == ()
    assert histories({}) == ()
    (picture,) = histories({**still, "train/log_sigma": [(1, 0.0), (2, -1.0)], "val/distortion": [(2, 9.0)]})
    assert picture.svg is not None
    text = picture.svg.decode()
    for label in ("log σ [log of units of x]", "β [1]", "distortion, rate [nats per datum]", "step [1]"):
        assert label in text


def test_the_beta_that_is_drawn_for_each_datum_is_not_history() -> None:
    moving = {"train/beta": [(1, 1.0), (2, 1.3)]}
    for gating, shown in ((None, True), (GatingConfig(), False)):
        subject = subjects.digits(gating=gating)
        subject.history = moving
        assert ("history" in named(found(subject))) == shown


def test_the_history_is_what_a_run_logged(tmp_path: Path) -> None:
    rows = [(1, {"train/beta": 0.5, "train/loss": None}), (2, {"train/beta": 0.7, "val/elbo": -3.0})]
    lines = [json.dumps({"step": step, "metrics": metrics}) for step, metrics in rows]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 3, "metr')
    assert history.read(tmp_path) == {"train/beta": [(1, 0.5), (2, 0.7)], "val/elbo": [(2, -3.0)]}
    assert history.read(tmp_path / "nowhere") == {}
