"""The weights of the FID's Inception: where they are found, and that they are what they should be.

They are read with `torch.load(weights_only=True)`, after their SHA-256 has been compared: no code in them is run.
"""

from __future__ import annotations

import hashlib
import io
import pickle  # nosec B403  # for its error alone
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vae_models.data.catalogue.records import DataFile
from vae_models.data.errors import DataCorrupt, DataError, DataMissing
from vae_models.data.fetch import Policy, ProgressCallback
from vae_models.data.locate import obtain
from vae_models.data.places import Places
from vae_models.data.progress import StderrProgress
from vae_models.evaluation.features.published import FILE

ELSE = "Or name the file (features.weights), or measure on other features (features.kind: pixels or random-conv)."


@dataclass(frozen=True, kw_only=True)
class _Home:
    name: str = "inception"
    folder: str = "inception"


def published(
    file: DataFile = FILE,
    places: Places | None = None,
    *,
    progress: ProgressCallback | None = None,
    policy: Policy | None = None,
) -> Mapping[str, Tensor]:
    """Return the published weights, from VAESVC_DATA_DIR, the cache, or their address, in this order.

    Raise DataMissing that names the file and where it can be put, DataCorrupt where it is another one.
    """
    places = places or Places.from_environment()
    try:
        return obtain(_Home(), file, _read, places, progress=progress or StderrProgress(), policy=policy).value
    except DataMissing as error:
        raise DataMissing(f"{error}\n{ELSE}") from error


def at(path: str, sha256: str) -> Mapping[str, Tensor]:
    """Return the weights at a path. Raise DataMissing, DataError, or DataCorrupt where it has another SHA-256."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise DataMissing(f"there is no {path}: `weights` is the path of {FILE.name} on this machine") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataCorrupt(f"{path} ({len(content):,} bytes) has not the SHA-256 {sha256}: get it again, or set sha256")
    try:
        return _read(content)
    except ValueError as error:
        raise DataCorrupt(f"{path}: {error}") from error


def _read(content: bytes) -> Mapping[str, Tensor]:
    """Return the tensors by name. Raise ValueError for anything else."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError("it is no file of weights that torch can read without running code in it") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError("it holds other things than tensors by their names")
    return state
