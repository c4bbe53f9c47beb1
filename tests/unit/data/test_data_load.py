"""Whole data sets: from the published files where they are, and from files written here in the published formats."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

from tests.unit.data import writers
from tests.unit.data.publishing import CATALOGUE, substitute
from vae_models import data
from vae_models.data.catalogue.records import DataFile, Form
from vae_models.data.config import DataConfig
from vae_models.data.errors import DataCorrupt
from vae_models.data.places import Places
from vae_models.data.published import Published
from vae_models.data.records import Dataset, Split
from vae_models.data.sources import SOURCES
from vae_models.data.spec import LabelSpec

RNG = np.random.default_rng(0)

# means over k/255 of what each file holds, as its publisher's page or the formats' documentation has them
MEANS = {
    "mnist": {"training file": 0.13066, "test": 0.13251},
    "fashion-mnist": {"training file": 0.28604, "test": 0.28685},
    "binarized-mnist": {"train": 0.130562, "val": 0.131127, "test": 0.132512},
}


def _mean(*splits: Split) -> float:
    return float(torch.cat([split.x.flatten() for split in splits]).double().mean() / 255)


def _sizes(dataset: Dataset) -> tuple[int, int, int]:
    return len(dataset.train), len(dataset.val), len(dataset.test)


def _check_records(dataset: Dataset) -> None:
    a_set = CATALOGUE[dataset.name]
    assert dataset.shape == a_set.facts.shape
    for split in (dataset.train, dataset.val, dataset.test):
        assert split.x.dtype == torch.uint8
        assert split.x.shape == (len(split), *a_set.facts.shape)
        assert split.x.is_contiguous()
        assert (split.labels is None) == (a_set.facts.labels is None)
        if split.labels is not None:
            assert split.labels.shape == (len(split),)
            assert dataset.labels == a_set.facts.labels


@pytest.mark.parametrize("name", ["digits", "pendulum"])
def test_sets_without_files_load_anywhere(name: str, tmp_path: Path) -> None:
    dataset = data.load(DataConfig(name=name), data_dir=tmp_path, cache_dir=tmp_path / "cache")
    _check_records(dataset)
    assert _sizes(dataset) == CATALOGUE[name].facts.sizes
    again = data.load(DataConfig(name=name), data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert torch.equal(dataset.train.x, again.train.x)
    assert list(tmp_path.iterdir()) == []


def test_digits_are_cut_once_and_for_all(tmp_path: Path) -> None:
    dataset = data.load(DataConfig(name="digits"))
    splits = (dataset.train, dataset.val, dataset.test)
    counts = [torch.bincount(split.labels, minlength=10).tolist() for split in splits]  # type: ignore[arg-type]
    assert np.sum(counts, axis=0).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert all(min(count) > 10 for count in counts)  # every class is in every split
    assert dataset.train.labels is not None
    assert dataset.train.labels[:5].tolist() == [2, 8, 2, 6, 6]


def test_pendulum_angles_are_radians() -> None:
    dataset = data.load(DataConfig(name="pendulum"))
    assert dataset.test.labels is not None
    assert dataset.test.labels.dtype == torch.float32
    assert float(dataset.test.labels.abs().max()) <= np.pi + 1e-6
    assert dataset.labels == LabelSpec(name="angle", unit="rad")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_published_idx(name: str, published: Places) -> None:
    dataset = SOURCES.get(name).load(published)
    _check_records(dataset)
    assert _sizes(dataset) == (50000, 10000, 10000)
    assert _mean(dataset.train, dataset.val) == pytest.approx(MEANS[name]["training file"], abs=5e-6)
    assert _mean(dataset.test) == pytest.approx(MEANS[name]["test"], abs=5e-6)
    labels = torch.cat([dataset.train.labels, dataset.val.labels])  # type: ignore[list-item]
    per_class = torch.bincount(labels).tolist()
    mnist = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert per_class == (mnist if name == "mnist" else [6000] * 10)
    assert len(dataset.sources) == 4


def test_published_binarized_mnist(published: Places) -> None:
    dataset = SOURCES.get("binarized-mnist").load(published)
    _check_records(dataset)
    assert _sizes(dataset) == (50000, 10000, 10000)
    assert set(dataset.test.x.unique().tolist()) == {0, 255}
    for split, mean in MEANS["binarized-mnist"].items():
        assert _mean(getattr(dataset, split)) == pytest.approx(mean, abs=5e-7)


def test_binarized_mnist_is_a_sample_of_mnist(published: Places) -> None:
    """Orientation and scale: the mean pictures agree (the rows of the two test files are in different orders)."""
    grey = SOURCES.get("mnist").load(published)
    binary = SOURCES.get("binarized-mnist").load(published)
    light = grey.test.x.double().mean(dim=0).flatten()
    drawn = binary.test.x.double().mean(dim=0).flatten()
    assert float(torch.corrcoef(torch.stack([light, drawn]))[0, 1]) > 0.999


def test_published_omniglot(published: Places) -> None:
    dataset = SOURCES.get("omniglot").load(published)
    _check_records(dataset)
    known = {"omniglot_28x28_chardata_layout.mat": 8115, "chardata.mat": 8070}
    (name,) = dataset.sources
    assert _sizes(dataset) == (23000, 1345, known[name])
    assert dataset.train.labels is not None
    assert dataset.train.labels.unique().tolist() == list(range(50))
    if name != "chardata.mat":
        assert _mean(dataset.train, dataset.val, dataset.test) == pytest.approx(0.0806, abs=5e-5)


def test_mnists_validation_split_is_the_end_of_the_training_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, test = (RNG.integers(0, 256, (n, 28, 28)).astype(np.uint8) for n in (60, 10))
    labels, test_labels = (np.arange(n, dtype=np.uint8) % 10 for n in (60, 10))
    contents = {
        "train-images": writers.idx(images),
        "train-labels": writers.idx(labels),
        "test-images": writers.idx(test),
        "test-labels": writers.idx(test_labels),
    }
    _publish(monkeypatch, tmp_path, _of_sizes(CATALOGUE["mnist"], (50, 10, 10)), contents)
    dataset = data.load(DataConfig(name="mnist"), data_dir=tmp_path, cache_dir=tmp_path)
    np.testing.assert_array_equal(dataset.train.x[:, 0], images[:50])
    np.testing.assert_array_equal(dataset.val.x[:, 0], images[50:])
    np.testing.assert_array_equal(dataset.test.x[:, 0], test)
    assert dataset.val.labels is not None
    assert dataset.val.labels.tolist() == list(range(10))
    assert dataset.sources["train-images"] == hashlib.sha256(contents["train-images"]).hexdigest()


def test_images_where_labels_should_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = writers.idx(np.zeros((6, 28, 28), np.uint8))
    keys = ("train-images", "train-labels", "test-images", "test-labels")
    _publish(monkeypatch, tmp_path, CATALOGUE["mnist"], dict.fromkeys(keys, content))
    with pytest.raises(DataCorrupt, match="train-labels: IDX of 3 axes, expected labels of 1"):
        data.load(DataConfig(name="mnist"), data_dir=tmp_path, cache_dir=tmp_path)


def test_chardata_of_other_counts_is_refused(tmp_path: Path) -> None:
    """The file without a published sum: what is in the folder must have the known counts at least."""
    images = np.zeros((5, 28, 28), np.uint8)
    (tmp_path / "chardata.mat").write_bytes(writers.chardata(images, images))
    with pytest.raises(DataCorrupt, match="5 training and 5 test images, expected 24,345 and 8,070"):
        data.load(DataConfig(name="omniglot"), data_dir=tmp_path, cache_dir=tmp_path / "cache")


def test_the_iwae_authors_own_chardata_is_split_as_they_did(tmp_path: Path) -> None:
    """A file of the published counts: image i carries its number, so the split can be read off."""
    numbers = np.arange(24345)
    images = np.zeros((24345, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 27, 0] = numbers // 256, numbers % 256
    (tmp_path / "chardata.mat").write_bytes(writers.chardata(images, np.zeros((8070, 28, 28), np.uint8)))
    dataset = data.load(DataConfig(name="omniglot"), data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert _sizes(dataset) == CATALOGUE["omniglot"].facts.sizes
    read = [(split.x[:, 0, 0, 0].long() * 256 + split.x[:, 0, 27, 0].long()) for split in (dataset.train, dataset.val)]
    order = np.random.RandomState(123).permutation(24345)
    np.testing.assert_array_equal(read[0], order[:-1345])
    np.testing.assert_array_equal(read[1], order[-1345:])
    assert dataset.train.labels is not None
    np.testing.assert_array_equal(dataset.train.labels, order[:-1345] % 50)


def test_importing_the_package_loads_no_torch() -> None:
    program = (
        "import sys, vae_models.data, vae_models.data.catalogue; print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout == "False False\n"


def _publish(monkeypatch: pytest.MonkeyPatch, folder: Path, a_set: Published, contents: dict[str, bytes]) -> None:
    """The catalogue, as if `contents` were what is published, and the files in `folder`."""
    files = {}
    for key, content in contents.items():
        form = Form(name=key, sha256=hashlib.sha256(content).hexdigest(), urls=("http://127.0.0.1:9/",))
        files[key] = DataFile(forms=(form,), content=frozenset(), home="")
        (folder / key).write_bytes(content)
    substitute(monkeypatch, replace(a_set, files=MappingProxyType(files)))


def _of_sizes(a_set: Published, sizes: tuple[int, int, int]) -> Published:
    return replace(a_set, facts=a_set.facts.model_copy(update={"sizes": sizes}))
