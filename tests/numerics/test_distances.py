"""Distances of samples, reconstructions and interpolations: by definition, and on any number of workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from tests import gangs, pytorch_fid_package, subjects
from vae_models.evaluation.distances.interpolations import drawn_pairs
from vae_models.evaluation.distances.specs import FidEvaluation, InterpolationFidEvaluation
from vae_models.evaluation.distances.values import all_distances
from vae_models.evaluation.drawing import drawn
from vae_models.evaluation.features.compute import of_images, reference
from vae_models.evaluation.findings import Value
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.samplers.specs import PriorSamplerConfig
from vae_models.topologies.vae.specs import GatingConfig

PIXELS, CONV = {"kind": "pixels", "size": 4}, {"kind": "random-conv"}
COUNT = 90  # not a multiple of the batches


def values(subject: Subject, *specs: FidEvaluation | InterpolationFidEvaluation) -> dict[str, Value]:
    return {value.name: value for spec in specs for value in spec.build()(subject).values}


def fid(features: dict[str, object] = PIXELS, **more: object) -> FidEvaluation:
    return FidEvaluation.model_validate({"features": features, "count": COUNT, **more})


def interpolation(features: dict[str, object] = PIXELS) -> InterpolationFidEvaluation:
    return InterpolationFidEvaluation.model_validate({"features": features, "count": COUNT})


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAESVC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def cells(images: Tensor) -> NDArray[np.float64]:
    """Means over 2 x 2 pixels of 8-bit images of 8 x 8."""
    levels = np.rint(images.float().clamp(0, 1).numpy() * 255) / 255
    return levels.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16)


def by_package(images: Tensor, data: Tensor) -> float:
    clouds = cells(images), cells(data)
    return pytorch_fid_package.frechet_distance(
        *(moment for x in clouds for moment in (x.mean(0), np.cov(x, rowvar=False)))
    )


def test_distances_are_the_packages_on_the_same_features() -> None:
    subject = subjects.digits(limit=100)
    name = "fid_pixels_4/"
    found = values(subject, fid(), fid(form="samples", reconstructions=False), interpolation())
    data = subject.dataset.test.x[:100] / 255
    for form, suffix in (("means", ""), ("samples", "/samples")):
        images = drawn(subject, PriorSamplerConfig(), COUNT, form=form, stream="distances")
        assert found[f"{name}prior{suffix}"].value == pytest.approx(by_package(images, data), rel=1e-4), form
    assert found[f"{name}prior"].value != found[f"{name}prior/samples"].value
    model, noise = subject.model, subject.draw(subject.model.noise(), 100, stream="test/reconstructions")
    with torch.no_grad():
        means = model(data.double(), noise).mean
    assert found[f"{name}reconstruction"].value == pytest.approx(by_package(means, data), rel=1e-4)
    pairs = drawn_pairs(subject, COUNT)
    z = subject.posteriors().mean.numpy()
    places = {"midpoint": np.full(COUNT, 0.5), "random": pairs.place.numpy()}
    for way, place in places.items():
        between = np.stack([arc(z[a], z[b], t) for a, b, t in zip(pairs.first, pairs.second, place, strict=True)])
        with torch.no_grad():
            images = subject.space.decode(torch.from_numpy(between))
        assert found[f"{name}interpolation_{way}"].value == pytest.approx(by_package(images, data), rel=1e-4), way


def arc(a: NDArray[np.float64], b: NDArray[np.float64], t: float) -> NDArray[np.float64]:
    """sin((1 - t) w) a / sin w + sin(t w) b / sin w, w the angle between a and b."""
    w = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return (np.sin((1 - t) * w) * a + np.sin(t * w) * b) / np.sin(w)


@pytest.mark.parametrize("features", [PIXELS, CONV], ids=["pixels", "random-conv"])
def test_data_are_nearer_to_data_than_noise_is(features: dict[str, object]) -> None:
    subject = subjects.digits(limit=200)
    extractor = fid(features).features.build(torch.device("cpu"))
    data = reference(subject, extractor, 200)
    digits = subject.dataset.train.x[:200]
    noise = torch.randint(0, 256, digits.shape, generator=torch.Generator().manual_seed(0))

    def measured(images: Tensor) -> dict[str, float]:
        cloud = of_images(subject, extractor, images / 255, what="images")
        return {each.name.partition("_")[0]: each.value for each in all_distances(data, cloud, "x")}

    near, far = measured(digits), measured(noise)
    assert near["fid"] < far["fid"] / 5
    assert near["kid"] < far["kid"] / 5
    for share in ("precision", "recall", "density", "coverage"):
        assert near[share] > 0.5 > far[share]


def test_values_say_what_they_are_of() -> None:
    found = values(subjects.digits(limit=100), fid())
    assert {value.count for value in found.values()} == {COUNT, 100}
    assert all("to 100 data" in value.note or "to 90 data" in value.note for value in found.values())
    assert {name.partition("_")[0]: value.mode for name, value in found.items()} == {
        "fid": "min", "kid": "min", "precision": "max", "recall": "max", "density": "max", "coverage": "max"
    }  # fmt: skip


def test_a_multi_rate_model_is_asked_at_each_beta() -> None:
    subject = subjects.digits(limit=60, gating=GatingConfig(low=0.1, high=10.0), betas=[0.1, 10.0])
    found = values(subject, fid(), interpolation())
    for name in ("prior", "reconstruction", "interpolation_midpoint", "interpolation_random"):
        at = [found[f"{beta}fid_pixels_4/{name}"].value for beta in ("", "beta_0.1/", "beta_10/")]
        assert len(set(at)) == 3, name


def test_pairs_are_of_different_data_and_do_not_depend_on_their_number() -> None:
    subject = subjects.digits(limit=7)
    pairs, fewer = drawn_pairs(subject, 3000), drawn_pairs(subject, 10)
    assert not (pairs.first == pairs.second).any()
    assert torch.equal(pairs.first[:10], fewer.first)
    assert torch.equal(pairs.place[:10], fewer.place)
    counts = torch.bincount(pairs.first * 7 + pairs.second, minlength=49).reshape(7, 7)
    assert (counts.diagonal() == 0).all()
    expected = 3000 / 42
    chi = float(((counts - expected).square() / expected)[~torch.eye(7, dtype=torch.bool)].sum())
    assert chi < 41 + 4 * (2 * 41) ** 0.5
    assert abs(float(pairs.place.mean()) - 0.5) < 4 / (12 * 3000) ** 0.5


def _found(**plan: object) -> dict[str, list[float]]:
    subject = subjects.digits(limit=100, **plan)
    found = values(subject, fid(), fid(CONV), interpolation(CONV))
    return {name: [value.value, value.error or 0.0] for name, value in found.items()}


def _work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAESVC_CACHE_DIR", str(folder / f"machine-{rank}"))  # the second time one of them has no file
        first = _found(batch_size=24)
        for path in (folder / "machine-1" / "features").glob("*"):
            path.unlink(missing_ok=True)
        dist.barrier()
        second = _found(batch_size=24)
    (folder / f"{rank}.json").write_text(json.dumps([first, second, _refused()]))
    dist.destroy_process_group()


def _refused() -> str:
    """What is said of images of which one of the second worker's is infinite."""
    images = torch.zeros(60, 1, 8, 8)
    images[30, 0, 2, 3] = torch.inf
    extractor = fid().features.build(torch.device("cpu"))
    with pytest.raises(Inapplicable) as refused:
        of_images(subjects.digits(batch_size=24), extractor, images, what="pictures")
    return str(refused.value)


def test_two_workers_find_what_one_does(tmp_path: Path) -> None:
    gangs.run(_work, (2, tmp_path), 2)
    workers = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    first, second, refused = workers[0]
    assert second == first
    assert workers[1] == workers[0]
    assert refused == "pictures: 1 of 60 images are not finite, so they have no features"
    alone = _found(batch_size=100)
    assert set(alone) == set(first)
    for name, numbers in alone.items():
        assert first[name] == pytest.approx(numbers, rel=1e-5, abs=1e-9), name


def test_batches_and_memory_change_nothing() -> None:
    expected = _found(batch_size=100)
    for plan in ({"batch_size": 7}, {"batch_size": 100, "memory_mib": 16}):
        for name, numbers in _found(**plan).items():
            assert numbers == pytest.approx(expected[name], rel=1e-5, abs=1e-9), name
