"""Readers of the published formats: bytes in, arrays out. They know nothing of files, sums or splits.

Every reader raises `ValueError` with the offending offset, name or count when the bytes are not of the format.
"""

from __future__ import annotations

from vae_models.data.formats.cifar import read_cifar, read_cifar_archive
from vae_models.data.formats.dsprites import DSPRITES_LATENTS, read_dsprites
from vae_models.data.formats.matlab import Chardata, read_chardata, read_frey_faces, read_silhouettes, read_svhn
from vae_models.data.formats.mnist import read_amat, read_idx
from vae_models.data.formats.motion import Skeleton, read_amc, read_asf
from vae_models.data.formats.omniglot import Drawings, read_drawings

__all__ = [
    "DSPRITES_LATENTS",
    "Chardata",
    "Drawings",
    "Skeleton",
    "read_amat",
    "read_amc",
    "read_asf",
    "read_chardata",
    "read_cifar",
    "read_cifar_archive",
    "read_drawings",
    "read_dsprites",
    "read_frey_faces",
    "read_idx",
    "read_silhouettes",
    "read_svhn",
]
