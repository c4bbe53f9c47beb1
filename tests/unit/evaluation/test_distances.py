"""What is kept of the data's features, and what distances refuse."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tests import gangs, subjects
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.data.places import Places
from vae_models.evaluation.distances.specs import FidEvaluation, InterpolationFidEvaluation
from vae_models.evaluation.features.compute import Reference, reference
from vae_models.evaluation.features.extractor import as_levels
from vae_models.evaluation.features.plain import Pixels
from vae_models.evaluation.run import chosen
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Inapplicable, Subject

PIXELS = {"kind": "pixels"}
CPU = torch.device("cpu")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(data_dir=None, cache_dir=tmp_path / "cache")


def told(**plan: object) -> tuple[Subject, list[str]]:
    """A subject, and what it was told of its progress."""
    subject, heard = subjects.digits(**plan), list[str]()

    def tick(what: str, done: int, total: int) -> bool:
        heard.append(what)
        return False

    return Subject(subject.module, subject.config, subject.dataset, subject.plan, tick=tick), heard


def same(one: Reference, other: Reference) -> bool:
    pairs = ((one.features, other.features), (one.moments.mean, other.moments.mean))
    return one.moments.count == other.moments.count and all(torch.equal(*pair) for pair in pairs)


def files(places: Places) -> list[Path]:
    return sorted((places.cache_dir / "features").iterdir())


def test_features_of_the_data_are_computed_once(places: Places) -> None:
    found = []
    for expected in (1, 0):
        subject, heard = told(limit=100, batch_size=100)
        found.append(reference(subject, Pixels(size=4), 60, places=places))
        assert heard == ["features of the data"] * expected
    assert same(*found)
    assert found[0].features.shape == (60, 16)
    assert found[0].moments.count == 100
    assert len(files(places)) == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "empty"])
def test_a_damaged_file_is_made_anew(places: Places, damage: str) -> None:
    subject, heard = told(limit=100, batch_size=100)
    before = reference(subject, Pixels(size=4), 60, places=places)
    (path,) = files(places)
    content = path.read_bytes()
    flipped = bytes([content[-1] ^ 1])
    path.write_bytes({"cut": content[:-9], "flipped": content[:-1] + flipped, "other": b"{}", "empty": b""}[damage])
    assert same(reference(subject, Pixels(size=4), 60, places=places), before)
    assert len(heard) == 2
    assert same(reference(subject, Pixels(size=4), 60, places=places), before)
    assert len(heard) == 2


@pytest.mark.parametrize(
    ("plan", "size", "rows"),
    [
        ({"limit": 99}, 4, 60), ({"split": "val"}, 4, 60), ({}, 3, 60), ({}, 4, 50), ({"dtype": "float32"}, 4, 60)
    ],
    ids=["limit", "split", "extractor", "rows", "dtype"],
)  # fmt: skip
def test_what_features_depend_on_has_a_file_of_its_own(
    places: Places, plan: dict[str, object], size: int, rows: int
) -> None:
    reference(subjects.digits(limit=100), Pixels(size=4), 60, places=places)
    reference(subjects.digits(**{"limit": 100, **plan}), Pixels(size=size), rows, places=places)
    assert len(files(places)) == 2


def test_another_set_of_the_same_name_has_a_file_of_its_own(places: Places) -> None:
    subject = subjects.digits(limit=100)
    first = reference(subject, Pixels(size=4), 60, places=places)
    subject.dataset.test.x[0] = 255 - subject.dataset.test.x[0]
    other = Subject(subject.module, subject.config, subject.dataset, subject.plan)
    assert not same(reference(other, Pixels(size=4), 60, places=places), first)
    assert len(files(places)) == 2


def test_without_a_folder_to_write_to_features_are_computed_all_the_same(places: Places) -> None:
    places.cache_dir.write_text("a file")
    subject = subjects.digits(limit=100)
    assert reference(subject, Pixels(size=4), 60, places=places).moments.count == 100


def _at_once(rank: int, cache: Path) -> None:
    torch.set_num_threads(1)
    places = Places(data_dir=None, cache_dir=cache)
    subject = subjects.digits(limit=100)
    for _ in range(20):
        found = reference(subject, Pixels(size=4), 60, places=places)
        assert found.moments.count == 100
        assert bool(found.features.isfinite().all())
        for path in (cache / "features").glob("*.safetensors"):
            if os.getpid() % 2:
                path.unlink(missing_ok=True)


def test_several_processes_may_ask_at_once(places: Places) -> None:
    gangs.run(_at_once, (places.cache_dir,), 3)
    reference(subjects.digits(limit=100), Pixels(size=4), 60, places=places)
    assert [path.suffix for path in files(places)] == [".safetensors"]


def test_images_are_rounded_as_files_are() -> None:
    images = torch.tensor([-1.0, 0.0, 0.4999 / 255, 0.5001 / 255, 0.7, 1.0, 2.0, float("nan")], dtype=torch.float64)
    levels = as_levels(images)
    assert levels.dtype == torch.float32
    assert (levels[:7] * 255).tolist() == pytest.approx([0, 0, 0, 1, 178, 255, 255])
    assert levels[7].isnan()


def refusals(data: DataConfig, features: dict[str, object]) -> str:
    config = TrainConfig.model_construct(data=data)
    return "\n".join(FidEvaluation.model_validate({"features": features}).features.refusals(config))


def test_what_has_no_features_is_refused_before_anything_is_computed() -> None:
    images = {"shape": [2, 8, 8], "axes": ["channel", "height", "width"], "support": "bytes", "sizes": [9, 9, 9]}
    vectors = {"shape": [5], "axes": ["feature"], "support": "reals", "sizes": [9, 9, 9]}
    own = {"name": "own", "digest": "0" * 64}
    assert "a datum of own is feature" in refusals(DataConfig(**own, facts=vectors), PIXELS)
    assert "values in [0, 1], and those of own are reals" in refusals(
        DataConfig(**own, facts={**images, "support": "reals"}), PIXELS
    )
    assert refusals(DataConfig(**own, facts=images), PIXELS) == ""
    assert "images of own have 2 channels" in refusals(DataConfig(**own, facts=images), {"kind": "inception"})
    assert "sha256 is of the file at `weights`" in refusals(
        DataConfig(name="digits"), {"kind": "inception", "sha256": "0" * 64}
    )
    for binarize in ("threshold", "dynamic"):
        assert refusals(DataConfig(name="digits", binarize=binarize), {"kind": "inception"}) == ""


def test_they_are_not_in_an_empty_plan() -> None:
    config = subjects.digits().config
    kinds = {spec.kind for spec in chosen(EvaluationPlan(), config).values()}
    assert "likelihood" in kinds
    assert not kinds & {"fid", "interpolation-fid"}
    plan = EvaluationPlan(evaluators=(FidEvaluation(), InterpolationFidEvaluation()))
    assert [spec.kind for spec in chosen(plan, config).values()] == ["fid", "interpolation-fid"]


@pytest.fixture
def in_cache(places: Places, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("VAESVC_CACHE_DIR", str(places.cache_dir))
    return


@pytest.mark.usefixtures("in_cache")
@pytest.mark.parametrize("kind", [FidEvaluation, InterpolationFidEvaluation])
def test_too_few_data_or_samples_are_refused(kind: type[FidEvaluation]) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 6"):
        kind.model_validate({"count": 5})
    spec = kind.model_validate({"features": PIXELS, "count": 6})
    with pytest.raises(Inapplicable, match="at least 6 data, and there are 5 of test: raise the limit"):
        spec.build()(subjects.digits(limit=5))
    assert spec.build()(subjects.digits(limit=6)).values


class Overflowing(Pixels):
    """Infinite for bright images."""

    def __call__(self, images: Tensor) -> Tensor:
        return torch.where(images.flatten(1).mean(1, keepdim=True) > 0.3, torch.inf, super().__call__(images))


def test_features_that_are_not_finite_are_refused(places: Places) -> None:
    subject = subjects.digits(limit=100)
    bright = int((subject.dataset.test.x[:100].float().flatten(1).mean(1) > 0.3 * 255).sum())
    assert 0 < bright < 100
    with pytest.raises(Inapplicable, match=f"numbers that are not finite of {bright} of 100 images"):
        reference(subject, Overflowing(size=4), 60, places=places)
    assert not places.cache_dir.exists()


@pytest.mark.usefixtures("in_cache")
def test_images_that_are_not_finite_are_refused() -> None:
    subject = subjects.digits(limit=20)
    for name, parameter in subject.module.named_parameters():
        if "decoder" in name:
            nn.init.constant_(parameter, float("nan"))
    spec = FidEvaluation.model_validate({"features": PIXELS, "count": 10})
    with pytest.raises(Inapplicable, match="features of prior: 10 of 10 images are not finite"):
        spec.build()(subject)
