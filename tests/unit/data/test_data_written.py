"""Whole sets that are not at hand, on small files written in the published formats by other tools."""

from __future__ import annotations

import hashlib
import lzma
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch

from tests.unit.data import writers
from tests.unit.data.publishing import CATALOGUE, Publish, load, random_bytes, resized, substitute
from vae_models.data import formats
from vae_models.data.builders import standard
from vae_models.data.errors import DataCorrupt, DataMissing
from vae_models.data.places import Places
from vae_models.data.spec import LabelSpec

RNG = np.random.default_rng(0)


# --- CIFAR-10 -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cifar(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{"data_batch_1.bin": (images, labels), ...}: 12 records each, of which the subset's test takes 5."""
    monkeypatch.setattr(standard, "_CIFAR_RECORDS", 12)
    monkeypatch.setattr(standard, "_SUBSET_TEST", 5)
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    return {name: (random_bytes(12, 3, 32, 32), RNG.integers(0, 10, 12)) for name in names}


def _batch_contents(cifar: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, bytes]:
    keys = ("batch-1", "batch-2", "batch-3", "batch-4", "batch-5", "test")
    return {key: writers.cifar(*batch) for key, batch in zip(keys, cifar.values(), strict=True)}


def _archive(cifar: dict[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    return writers.tar_gz({f"cifar-10-batches-bin/{name}": writers.cifar(*cifar[name]) for name in reversed(cifar)})


@pytest.mark.parametrize("form", ["archive", "batches"])
def test_cifar10_from_the_archive_and_from_the_batches(form: str, cifar, publish: Publish, places: Places) -> None:
    contents = {"archive": _archive(cifar)} if form == "archive" else _batch_contents(cifar)
    publish("cifar10", contents, sizes=(48, 12, 12))
    dataset = load("cifar10", places)
    batches = list(cifar.values())
    np.testing.assert_array_equal(dataset.train.x, np.concatenate([images for images, _ in batches[:4]]))
    np.testing.assert_array_equal(dataset.val.x, batches[4][0])
    np.testing.assert_array_equal(dataset.test.x, batches[5][0])
    np.testing.assert_array_equal(dataset.test.labels, batches[5][1])
    assert len(dataset.sources) == (1 if form == "archive" else 6)


@pytest.mark.parametrize("keys", [("archive",), ("batch-1", "test"), ("batch-1", "test-1000")])
def test_cifar10s_subset_is_the_same_from_all_its_sources(keys, cifar, publish: Publish, places: Places) -> None:
    images, labels = cifar["data_batch_1.bin"]
    test, test_labels = cifar["test_batch.bin"]
    contents = {
        "archive": _archive(cifar),
        **_batch_contents(cifar),
        "test-1000": writers.cifar(test[:5], test_labels[:5]),
    }
    publish("cifar10-subset", {key: contents[key] for key in keys}, sizes=(10, 2, 5))
    dataset = load("cifar10-subset", places)
    np.testing.assert_array_equal(dataset.train.x, images[:10])
    np.testing.assert_array_equal(dataset.val.labels, labels[10:])
    np.testing.assert_array_equal(dataset.test.x, test[:5])
    np.testing.assert_array_equal(dataset.test.labels, test_labels[:5])


def test_cifar10_with_a_batch_missing_says_which_there_are(cifar, publish: Publish, places: Places) -> None:
    contents = _batch_contents(cifar)
    del contents["batch-3"]
    publish("cifar10", contents, sizes=(48, 12, 12))
    with pytest.raises(DataMissing) as missing:
        load("cifar10", places)
    message = str(missing.value)
    assert "cifar-10-binary.tar.gz is missing" in message
    assert "data_batch_2.bin (there)" in message
    assert "data_batch_3.bin (missing)" in message


def test_a_batch_that_is_xz_compressed_again_is_told_by_its_content(
    cifar, places: Places, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = writers.cifar(*cifar["data_batch_1.bin"])
    a_set = publish("cifar10-subset", _batch_contents(cifar), sizes=(10, 2, 5))
    file = replace(a_set.files["batch-1"], content=frozenset({hashlib.md5(content).hexdigest()}))
    file = replace(file, forms=CATALOGUE["cifar10-subset"].files["batch-1"].forms)
    changed = replace(a_set, files=MappingProxyType({**a_set.files, "batch-1": file}))
    substitute(monkeypatch, changed)
    folder = places.data_dir / "cifar10" / "cifar-10-batches-bin"  # type: ignore[operator]
    (folder / "data_batch_1.bin").unlink()
    (folder / "data_batch_1.bin.xz").write_bytes(lzma.compress(content))
    assert len(load("cifar10-subset", places).train) == 10
    (folder / "data_batch_1.bin.xz").write_bytes(lzma.compress(content[:-1] + b"?"))
    with pytest.raises(DataCorrupt, match=f"expected content of MD5 {hashlib.md5(content).hexdigest()}, .*MD5"):
        load("cifar10-subset", places)


# --- SVHN, dSprites -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["svhn", "svhn-28"])
def test_svhn(name: str, publish: Publish, places: Places) -> None:
    images, test = random_bytes(9, 3, 32, 32), random_bytes(4, 3, 32, 32)
    digits, test_digits = np.arange(9), np.array([0, 9, 0, 5])
    publish(name, {"train": writers.svhn(images, digits), "test": writers.svhn(test, test_digits)}, sizes=(6, 3, 4))
    dataset = load(name, places)
    assert dataset.val.labels.tolist() == [6, 7, 8]  # type: ignore[union-attr]
    assert dataset.test.labels.tolist() == [0, 9, 0, 5]  # type: ignore[union-attr]
    assert dataset.labels == LabelSpec(name="digit")
    if name == "svhn":
        np.testing.assert_array_equal(dataset.train.x, images[:6])
        np.testing.assert_array_equal(dataset.test.x, test)
    else:
        np.testing.assert_allclose(dataset.val.x, resized(images[6:], 28), atol=1.01)


def test_svhn_of_other_counts_is_refused(publish: Publish, places: Places) -> None:
    content = writers.svhn(random_bytes(3, 3, 32, 32), np.arange(3))
    publish("svhn", {"train": content, "test": content}, sizes=(3, 1, 3))
    with pytest.raises(DataCorrupt, match=r"train_32x32\.mat: 3 images, expected 4"):
        load("svhn", places)


def test_dsprites(monkeypatch: pytest.MonkeyPatch, publish: Publish, places: Places) -> None:
    latents = (1, 3, 2, 4, 2, 3)
    classes = np.array(list(np.ndindex(latents)))
    images = np.zeros((144, 64, 64), np.uint8)
    for image, (_, shape, scale, orientation, x, y) in zip(images, classes.tolist(), strict=True):
        image[shape, scale] = image[10 + orientation, x] = image[20, y] = 1
    monkeypatch.setattr(formats, "DSPRITES_LATENTS", latents)
    publish("dsprites", {"sprites": writers.dsprites(images, classes)}, sizes=(100, 24, 20))
    dataset = load("dsprites", places)
    splits = (dataset.train, dataset.val, dataset.test)
    assert [len(split) for split in splits] == [100, 24, 20]
    labels = torch.cat([split.labels for split in splits])  # type: ignore[misc]
    assert sorted(map(tuple, labels.tolist())) == [tuple(row) for row in classes[:, 1:].tolist()]
    assert dataset.labels == LabelSpec(name=("shape", "scale", "orientation", "x", "y"))
    for split in splits:
        assert split.x.unique().tolist() == [0, 255]
        for image, (shape, scale, orientation, x, y) in zip(split.x[:, 0], split.labels.tolist(), strict=True):  # type: ignore[union-attr]
            assert image[shape, scale] == image[10 + orientation, x] == image[20, y] == 255
