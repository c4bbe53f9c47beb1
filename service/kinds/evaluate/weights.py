"""A trained model of a folder, verified: of a run, of one checkpoint, or of a registered version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.directories import MANIFEST
from service.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from vae_models.config.run import RunConfig


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A model in memory, verified. place: where it lies. manifest_sha256: of the manifest that has its files' sums."""

    model: nn.Module
    config: RunConfig
    place: Path
    manifest_sha256: str


def load(folder: Path) -> Weights:
    """Return the folder's model: of a run its best checkpoint, as the run was told to choose it.

    Raise UsageError where it holds none, StorageError where it is not what was written.
    """
    from service.pyfunc import load_directory

    place = _place(folder)
    trained, sha256 = load_directory(place), hashlib.sha256((place / MANIFEST).read_bytes()).hexdigest()
    return Weights(model=trained.model, config=trained.config, place=place, manifest_sha256=sha256)


def _place(folder: Path) -> Path:
    """Return where the folder's model lies: there, or in one of a run's checkpoints."""
    from vae_models.trained import folders
    from vae_models.training.errors import CheckpointError

    if (folder / MANIFEST).is_file():
        return folder
    if (folder / folders.CHECKPOINTS).is_dir():
        try:
            return folders.chosen(folder)
        except CheckpointError as error:
            raise UsageError(str(error)) from error
    raise UsageError(
        f"{folder} holds no model: name the --out of `vaesvc run`, a checkpoint in it, or the folder of `vaesvc pull`"
    )
