"""MNIST and its kin, Omniglot, CIFAR-10, SVHN, dSprites.

mnist, fashion    50,000 / 10,000 / 10,000: validation is the last 10,000 of the training file
binarized-mnist   50,000 / 10,000 / 10,000: three published files; bytes 0 and 255, so that x = k/255 is 0 or 1
omniglot          23,000 / 1,345 / 8,070: the IWAE authors' own split: RandomState(123).permutation of the training
                  columns, the last 1,345 for validation (8,115 test images from the originals or their conversion)
cifar10           40,000 / 10,000 / 10,000: validation is training batch 5
cifar10-subset    9,000 / 1,000 / 1,000: training batch 1, its last 1,000 for validation; the first 1,000 of the test
                  batch. Its numbers are not CIFAR-10's, so it has a name of its own
svhn, svhn-28     63,257 / 10,000 / 26,032: validation is the last 10,000 of the training file; 28: resized to 28x28 by
                  bilinear interpolation with antialiasing, as the sigma-VAE authors do
dsprites          717,280 / 10,000 / 10,000 in the order of RandomState(0).permutation (no split is published);
                  bytes 0 and 255
"""

from __future__ import annotations

from functools import partial

import numpy as np

from vae_models.data import formats
from vae_models.data.builders.common import Files, Images, Labels, cut, dataset, from_files
from vae_models.data.records import Dataset
from vae_models.data.spec import DataSpec

# numpy keeps the streams of the legacy RandomState fixed for ever, which it does not promise for Generator
_OMNIGLOT_SEED = 123
_DSPRITES_SEED = 0
_BACKGROUND_ALPHABETS = 30
_SUBSET_TEST = 1000  # records


@from_files
def mnist(files: Files) -> Dataset:
    images, labels = files.read("train-images", idx_images), files.read("train-labels", _idx_labels)
    test = (files.read("test-images", idx_images), files.read("test-labels", _idx_labels))
    n = files.facts.sizes[0]
    return dataset(files, (images[:n], labels[:n]), (images[n:], labels[n:]), test)


def idx_images(content: bytes) -> Images:
    """Return the images of an IDX file, [n, height, width]. Raise ValueError for anything else."""
    images = formats.read_idx(content)
    if images.ndim != 3:
        raise ValueError(f"IDX of {images.ndim} axes, expected images of 3")
    return images


def _idx_labels(content: bytes) -> Labels:
    labels = formats.read_idx(content)
    if labels.ndim != 1:
        raise ValueError(f"IDX of {labels.ndim} axes, expected labels of 1")
    return labels.astype(np.int64)


@from_files
def binarized(files: Files) -> Dataset:
    parts = [files.read(key, formats.read_amat) * np.uint8(255) for key in ("train", "val", "test")]
    train, val, test = ((images.reshape(-1, 28, 28), None) for images in parts)
    return dataset(files, train, val, test)


@from_files
def omniglot(files: Files) -> Dataset:
    data = files.read("chardata", _checked_chardata) if files.group() == ("chardata",) else _from_drawings(files)
    order = np.random.RandomState(_OMNIGLOT_SEED).permutation(len(data.train))
    images, labels, n = data.train[order], data.train_labels[order], files.facts.sizes[0]
    return dataset(files, (images[:n], labels[:n]), (images[n:], labels[n:]), (data.test, data.test_labels))


def _checked_chardata(content: bytes) -> formats.Chardata:
    """Read `chardata.mat` and check its counts: the published file has no published checksum."""
    data = formats.read_chardata(content)
    counts = (len(data.train), len(data.test))
    if counts not in ((24345, 8070), (24345, 8115)):
        raise ValueError(
            f"{counts[0]:,} training and {counts[1]:,} test images, expected 24,345 and 8,070 (8,115 in the conversion)"
        )
    return data


def _from_drawings(files: Files) -> formats.Chardata:
    """Build `chardata` from the drawings: 1-15 of every character for training, 16-20 for test;
    its counts differ by 45.
    """
    background = files.read("background", formats.read_drawings)
    evaluation = files.read("evaluation", formats.read_drawings)
    images = np.concatenate([background.images, evaluation.images])
    labels = np.concatenate([background.alphabets, evaluation.alphabets + _BACKGROUND_ALPHABETS])
    test = np.concatenate([background.numbers, evaluation.numbers]) > 15
    return formats.Chardata(
        train=images[~test], train_labels=labels[~test], test=images[test], test_labels=labels[test]
    )


@from_files
def cifar10(files: Files) -> Dataset:
    keys = files.group()
    if keys == ("archive",):
        batches = list(files.read("archive", _cifar_batches).values())
    else:
        batches = [files.read(key, _cifar_batch) for key in keys]
    images = np.concatenate([batch[0] for batch in batches])
    labels = np.concatenate([batch[1] for batch in batches])
    return dataset(files, *cut(images, labels, files.facts.sizes))


@from_files
def cifar10_subset(files: Files) -> Dataset:
    keys = files.group()
    if keys == ("archive",):
        batches = files.read("archive", _cifar_batches)
        (images, labels), (test, test_labels) = batches["data_batch_1"], batches["test_batch"]
    else:
        images, labels = files.read("batch-1", _cifar_batch)
        records = _SUBSET_TEST if keys[1] == "test-1000" else _CIFAR_RECORDS
        test, test_labels = files.read(keys[1], partial(formats.read_cifar, records=records))
    n = files.facts.sizes[0]
    return dataset(
        files,
        (images[:n], labels[:n]),
        (images[n:], labels[n:]),
        (test[:_SUBSET_TEST], test_labels[:_SUBSET_TEST]),
    )


_CIFAR_RECORDS = 10000  # in each of the six batches


def _cifar_batch(content: bytes) -> tuple[Images, Labels]:
    return formats.read_cifar(content, _CIFAR_RECORDS)


def _cifar_batches(content: bytes) -> dict[str, tuple[Images, Labels]]:
    """Read the batches in the order of their names: training batches 1-5, then the test batch."""
    return {name: _cifar_batch(batch) for name, batch in sorted(formats.read_cifar_archive(content).items())}


@from_files
def svhn(files: Files) -> Dataset:
    images, labels = files.read("train", partial(_svhn, files.facts, sum(files.facts.sizes[:2])))
    test = files.read("test", partial(_svhn, files.facts, files.facts.sizes[2]))
    n = files.facts.sizes[0]
    return dataset(files, (images[:n], labels[:n]), (images[n:], labels[n:]), test)


def _svhn(facts: DataSpec, count: int, content: bytes) -> tuple[Images, Labels]:
    images, labels = formats.read_svhn(content)
    if len(images) != count:
        raise ValueError(f"{len(images):,} images, expected {count:,}")
    if facts.shape[1] != images.shape[2]:
        images = np.stack([_resized(image, facts.shape[1]) for image in images])
    return images, labels


def _resized(image: Images, side: int) -> Images:
    """Return [3, h, w] as [3, side, side]: bilinear with antialiasing (the filter's support grows with the factor)."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


@from_files
def dsprites(files: Files) -> Dataset:
    """Build dSprites. Labels: the classes 0, 1, ...
    of shape, scale, orientation, x and y (colour is white throughout).
    """
    images, classes = files.read("sprites", partial(formats.read_dsprites, latents=formats.DSPRITES_LATENTS))
    images *= np.uint8(255)
    order = np.random.RandomState(_DSPRITES_SEED).permutation(len(images))
    a, b = files.facts.sizes[0], sum(files.facts.sizes[:2])
    train, val, test = ((images[part], classes[part, 1:]) for part in (order[:a], order[a:b], order[b:]))
    return dataset(files, train, val, test)
