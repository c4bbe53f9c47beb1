"""The sets of this package as their authors publish them, where they are at hand."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from tests.unit.data.publishing import CATALOGUE
from vae_models.data import formats, locate
from vae_models.data.catalogue.motion import MOVEMENTS, TRIALS
from vae_models.data.catalogue.records import DataFile
from vae_models.data.errors import DataCorrupt
from vae_models.data.places import Places
from vae_models.data.published import Published
from vae_models.data.records import Dataset
from vae_models.data.sources import SOURCES


def _path(places: Places, *parts: str) -> Path:
    assert places.data_dir is not None
    path = places.data_dir.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def _load(name: str, places: Places) -> Dataset:
    a_set = CATALOGUE[name]
    groups = a_set.alternatives or (tuple(a_set.files),)
    if not any(all(locate.present(a_set, a_set.files[key], places) for key in keys) for keys in groups):
        pytest.skip(f"{name} is not in {places.data_dir}")
    return SOURCES.get(name).load(places)


def _check(dataset: Dataset) -> None:
    a_set = CATALOGUE[dataset.name]
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == a_set.facts.sizes
    for split in (dataset.train, dataset.val, dataset.test):
        assert split.x.dtype == (torch.float32 if a_set.facts.support == "reals" else torch.uint8)
        assert split.x.shape == (len(split), *a_set.facts.shape)
        assert (split.labels is None) == (dataset.labels is None)
    assert all(len(sum_) == 64 for sum_ in dataset.sources.values())


def test_omniglots_archives_give_the_bytes_of_their_conversion(published: Places, tmp_path: Path) -> None:
    folder = _path(published, "omniglot")
    (tmp_path / "omniglot").mkdir()
    for part in ("background", "evaluation"):
        (tmp_path / "omniglot" / f"images_{part}.zip").symlink_to(folder / f"images_{part}.zip")
    ours = SOURCES.get("omniglot").load(Places(data_dir=tmp_path, cache_dir=tmp_path / "cache"))
    theirs = formats.read_chardata(_path(published, "omniglot", "omniglot_28x28_chardata_layout.mat").read_bytes())
    assert set(ours.sources) == {"images_background.zip", "images_evaluation.zip"}
    assert torch.equal(ours.test.x[:, 0], torch.from_numpy(theirs.test))
    assert torch.equal(ours.test.labels, torch.from_numpy(theirs.test_labels))  # type: ignore[arg-type]
    order = np.random.RandomState(123).permutation(24345)
    assert torch.equal(torch.cat([ours.train.x, ours.val.x])[:, 0], torch.from_numpy(theirs.train[order]))
    labels = torch.cat([ours.train.labels, ours.val.labels])  # type: ignore[list-item]
    assert torch.equal(labels, torch.from_numpy(theirs.train_labels[order]))


def test_cifar10_subset(published: Places) -> None:
    """Counts a class and channel means as documented for these records; whole CIFAR-10's means are close by."""
    dataset = _load("cifar10-subset", published)
    _check(dataset)
    labels = torch.cat([dataset.train.labels, dataset.val.labels])  # type: ignore[list-item]
    assert torch.bincount(labels).tolist() == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    assert torch.bincount(dataset.test.labels).tolist() == [103, 89, 100, 103, 90, 86, 112, 102, 106, 109]  # type: ignore[arg-type]
    means = dataset.train.x.double().mean(dim=(0, 2, 3)) / 255
    np.testing.assert_allclose(means, [0.49139968, 0.48215841, 0.44653091], atol=0.01)


def test_the_subset_is_not_taken_for_cifar10(published: Places, tmp_path: Path) -> None:
    folder = _path(published, "cifar10", "cifar-10-batches-bin")
    (tmp_path / "cifar10").mkdir()
    shutil.copytree(folder, tmp_path / "cifar10" / "cifar-10-batches-bin")
    a_set, places = CATALOGUE["cifar10"], Places(data_dir=tmp_path, cache_dir=tmp_path / "cache")
    for keys in a_set.alternatives:
        assert not all(locate.present(a_set, a_set.files[key], places) for key in keys)


def test_frey_faces(published: Places) -> None:
    dataset = _load("frey-faces", published)
    _check(dataset)
    images = torch.cat([split.x for split in (dataset.train, dataset.val, dataset.test)])
    assert (int(images.min()), int(images.max())) == (8, 238)
    ff = scipy.io.loadmat(_path(published, "frey_faces", "frey_rawface.mat"))["ff"]
    order = np.random.RandomState(0).permutation(1965)
    np.testing.assert_array_equal(images.flatten(1).numpy(), ff.T[order])
    # neighbours down a column of the picture agree as they do along a row; in rows of 28 they would differ by 46
    pictures = images[:, 0].double()
    down, along = pictures.diff(dim=1).abs().mean(), pictures.diff(dim=2).abs().mean()
    assert down < 25
    assert along < 25


def test_caltech_silhouettes(published: Places) -> None:
    dataset = _load("caltech-silhouettes", published)
    _check(dataset)
    assert dataset.train.x.unique().tolist() == [0, 255]
    corners = dataset.train.x[:, 0][:, [0, 0, -1, -1], [0, -1, 0, -1]].double().mean() / 255
    middle = dataset.train.x[:, 0, 12:16, 12:16].double().mean() / 255
    assert corners < 0.25 < 0.75 < middle  # 1 is the object
    labels = torch.cat([split.labels for split in (dataset.train, dataset.val, dataset.test)])  # type: ignore[misc]
    assert labels.unique().tolist() == list(range(101))


def test_cmu_motion_in_radians_agrees_with_the_gplvm_papers_matrix(published: Places) -> None:
    """Its first 90 rows are frames 1, 5, 9, ... of 35_01, in degrees and in the order of the skeleton's channels."""
    dataset = _load("cmu-motion", published)
    _check(dataset)
    matrix = scipy.io.loadmat(_path(published, "cmu_mocap", "35", "cmu35WalkJog.mat"))["Y"][:90]
    asf = _path(published, "cmu_mocap", "35", "35.asf").read_bytes()
    skeleton = formats.read_asf(asf)
    whole = formats.read_amc(_path(published, "cmu_mocap", "35", "35_01.amc").read_bytes(), skeleton)
    np.testing.assert_allclose(whole[::4], matrix, atol=1e-9)

    names = [name for name, count in skeleton.channels for _ in range(count)]
    kept = [i for i, name in enumerate(names) if name != "root" and "finger" not in name and "thumb" not in name]
    assert len(kept) == 50
    before = sum(trial.frames * 8 // 10 for trial in TRIALS[: [trial.name for trial in TRIALS].index("35_01")])
    ours = dataset.train.x[before : before + 358 * 8 // 10].reshape(-1, 50)
    np.testing.assert_allclose(ours[::4], np.deg2rad(matrix[: len(ours[::4]), kept]), atol=1e-6)

    # the end of every trial is held out
    for split, share in ((dataset.train, 0.8), (dataset.val, 0.1), (dataset.test, 0.1)):
        frames = [sum(trial.frames for trial in TRIALS if trial.movement == i) for i in range(len(MOVEMENTS))]
        assert split.labels is not None
        np.testing.assert_allclose(torch.bincount(split.labels), np.array(frames) * share, atol=3)
    assert 2 < float(dataset.train.x.abs().max()) < 2.5  # no angle comes near pi, where it would jump


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "binarized-mnist", "omniglot", "cifar10-subset"])
def test_truncated_files_are_refused_by_their_sums(name: str, published: Places, tmp_path: Path) -> None:
    """Every file of the set that is at hand and has a published sum, cut at nine tenths."""
    a_set, refusals = CATALOGUE[name], 0
    for file in a_set.files.values():
        for form in file.forms:
            path = published.data_dir / a_set.folder / form.name  # type: ignore[operator]
            if path.is_file() and (form.sha256 or file.content):
                with pytest.raises(DataCorrupt) as refused:
                    _obtain_cut(a_set, file, path, form.name, tmp_path)
                message = str(refused.value)
                assert f"{path.name} is truncated or altered" in message
                assert form.sha256 or next(iter(file.content)) in message
                refusals += 1
    if not refusals:
        pytest.skip(f"no file of {name} with a published sum is in {published.data_dir}")


def _obtain_cut(a_set: Published, file: DataFile, path: Path, name: str, folder: Path) -> None:
    cut = folder / a_set.folder / name
    cut.parent.mkdir(parents=True, exist_ok=True)
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    try:
        locate.obtain(a_set, file, bytes, Places(data_dir=folder, cache_dir=folder / "cache"))
    finally:
        cut.unlink()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("frey-faces", "faces"),
        ("caltech-silhouettes", "split1"),
        ("cmu-motion", "skeleton-35"),
        ("cmu-motion", "02_02"),
    ],
)
def test_truncated_files_without_a_published_sum_are_refused_by_their_layout(
    name: str, key: str, published: Places, tmp_path: Path
) -> None:
    a_set = CATALOGUE[name]
    for other in a_set.files.values():
        link = tmp_path / a_set.folder / other.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(_path(published, a_set.folder, other.name))
    link = tmp_path / a_set.folder / a_set.files[key].name
    content = link.read_bytes()[: link.stat().st_size * 9 // 10]
    link.unlink()
    link.write_bytes(content)
    with pytest.raises(DataCorrupt) as refused:
        SOURCES.get(name).load(Places(data_dir=tmp_path, cache_dir=tmp_path / "cache"))
    assert str(link) in str(refused.value)
    assert hashlib.sha256(content).hexdigest() in str(refused.value)
