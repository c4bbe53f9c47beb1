"""Which data sets there are: their sizes, their files, the files' checksums, and where they are published.

Nothing here imports torch or numpy, so specs can be checked against it at once.

Checksums are of the file as published (SHA-256) and of its decompressed content: a file is accepted when either agrees,
so it makes no difference who compressed it. Where none is published there is none here: such a file is checked by its
layout and counts, and the sum of the copy in the cache is kept beside it and must agree from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vae_models.data.catalogue.faces import CELEBA, CELEBA_HQ
from vae_models.data.catalogue.images import (
    CIFAR10,
    CIFAR10_SUBSET,
    CIFAR_BATCHES,
    DSPRITES,
    FREY_FACES,
    OMNIGLOT,
    SILHOUETTES,
    SVHN,
)
from vae_models.data.catalogue.mnist import BINARIZED, FASHION, MNIST
from vae_models.data.catalogue.motion import CMU_MOTION
from vae_models.data.catalogue.records import DataFile, Facts, Form

__all__ = ["CATALOGUE", "DataFile", "Facts", "Form"]

_ALL = (
    Facts(name="digits", shape=(1, 8, 8), sizes=(1297, 250, 250), folder="digits", label_name="digit"),
    Facts(
        name="mnist",
        shape=(1, 28, 28),
        sizes=(50000, 10000, 10000),
        folder="mnist",
        label_name="digit",
        files=MappingProxyType(MNIST),
    ),
    Facts(
        name="fashion-mnist",
        shape=(1, 28, 28),
        sizes=(50000, 10000, 10000),
        folder="fashion_mnist",
        label_name="class",
        files=MappingProxyType(FASHION),
    ),
    Facts(
        name="binarized-mnist",
        shape=(1, 28, 28),
        sizes=(50000, 10000, 10000),
        folder="binarized_mnist",
        values="bits",
        files=MappingProxyType(BINARIZED),
    ),
    Facts(
        name="omniglot",
        shape=(1, 28, 28),
        sizes=(23000, 1345, 8070),
        folder="omniglot",
        label_name="alphabet",
        files=MappingProxyType(OMNIGLOT),
        alternatives=(("chardata",), ("background", "evaluation")),
    ),
    Facts(
        name="pendulum",
        shape=(1, 16, 16),
        sizes=(5000, 1000, 1000),
        folder="pendulum",
        label_name="angle",
        label_unit="rad",
    ),
    Facts(
        name="cifar10",
        shape=(3, 32, 32),
        sizes=(40000, 10000, 10000),
        folder="cifar10",
        label_name="class",
        files=MappingProxyType(CIFAR10),
        alternatives=(("archive",), CIFAR_BATCHES),
    ),
    Facts(
        name="cifar10-subset",
        shape=(3, 32, 32),
        sizes=(9000, 1000, 1000),
        folder="cifar10",
        label_name="class",
        files=MappingProxyType(CIFAR10_SUBSET),
        alternatives=(("archive",), ("batch-1", "test"), ("batch-1", "test-1000")),
    ),
    Facts(
        name="svhn",
        shape=(3, 32, 32),
        sizes=(63257, 10000, 26032),
        folder="svhn",
        label_name="digit",
        files=MappingProxyType(SVHN),
    ),
    Facts(
        name="svhn-28",
        shape=(3, 28, 28),
        sizes=(63257, 10000, 26032),
        folder="svhn",
        label_name="digit",
        files=MappingProxyType(SVHN),
    ),
    Facts(
        name="celeba",
        shape=(3, 64, 64),
        sizes=(162770, 19867, 19962),
        folder="celeba",
        files=MappingProxyType(CELEBA),
    ),
    Facts(
        name="celeba-hq",
        shape=(3, 128, 128),
        sizes=(24183, 2993, 2824),
        folder="celeba_hq",
        files=MappingProxyType(CELEBA_HQ),
    ),
    Facts(
        name="dsprites",
        shape=(1, 64, 64),
        sizes=(717280, 10000, 10000),
        folder="dsprites",
        values="bits",
        label_name=("shape", "scale", "orientation", "x", "y"),
        files=MappingProxyType(DSPRITES),
    ),
    Facts(
        name="frey-faces",
        shape=(1, 28, 20),
        sizes=(1565, 200, 200),
        folder="frey_faces",
        files=MappingProxyType(FREY_FACES),
    ),
    Facts(
        name="caltech-silhouettes",
        shape=(1, 28, 28),
        sizes=(4100, 2264, 2307),
        folder="caltech101_silhouettes",
        values="bits",
        label_name="class",
        files=MappingProxyType(SILHOUETTES),
    ),
    Facts(
        name="cmu-motion",
        shape=(1, 1, 50),
        sizes=(4783, 598, 602),
        folder="cmu_mocap",
        values="reals",
        label_name="movement",
        files=MappingProxyType(CMU_MOTION),
    ),
)

CATALOGUE: Mapping[str, Facts] = MappingProxyType({facts.name: facts for facts in _ALL})
