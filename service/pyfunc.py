"""The loader that a registered model names in its MLmodel: MLflow calls `_load_pyfunc` of this installed module.

The stored model is data alone (safetensors, JSON, YAML), its sums are checked, and no code of it is run. This module
needs neither mlflow nor the rest of the service. That the service made the model, and nobody else, is what
`vaesvc.load` checks before it comes here; MLflow does not. What it returns is `vae_models.trained.Trained`, whose
`predict(data, params={"task": ...})` is MLflow's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from service import __version__
from service.code.reference import CodeRef, present
from service.directories import MANIFEST, CorruptObjectError
from service.errors import NeedsCodeError, NotFoundError, StorageError

if TYPE_CHECKING:
    from vae_models.trained import Trained

MODEL, CONFIG = "model.safetensors", "config.json"
RUNS_CODE = "code.json"  # of a run's folder: the same
CODE = "code"  # of the manifest: the user's own package that the model needs


def _load_pyfunc(path: str) -> Trained:
    """Load the model: MLflow calls this."""
    return load_directory(Path(path))


def check_code(needed: Mapping[str, str] | None, what: str) -> None:
    """Raise NeedsCodeError unless this process has the package that a model needs. None is ever imported unasked."""
    if needed is None:
        return
    ref, here = CodeRef.model_validate(needed), present()
    if here != ref.digest:
        has = "no package of own code" if here is None else f"another one (SHA-256 {here[:12]}...)"
        raise NeedsCodeError(
            f"{what} needs the package {ref}, which a user wrote, and this process has {has}. Loading the model runs "
            "that code with your rights. If you trust it, say so: vaesvc.load(NAME, code='trust'), or, before another "
            "loader, vaesvc.use_code(PATH), PATH its source or its wheel, which `vaesvc pull` puts into code/; on the "
            "command line --code PATH, or --code trust of a registered model"
        )


def load_directory(directory: Path, *, device: str = "cpu") -> Trained:
    """Load a model: one that was pulled, or what training keeps in a folder.

    Raises NotFoundError where there is none, CorruptObjectError, naming file and sums, if the directory differs from
    its manifest, StorageError for a configuration of another version, NeedsCodeError where own code is needed that is
    not here.
    """
    from vae_models.trained import Trained
    from vae_models.training.errors import CheckpointError, CorruptCheckpoint, IncompatibleCheckpoint

    check_code(_needed(directory), str(directory))
    try:
        return Trained.load(directory, device=device)
    except CorruptCheckpoint as error:
        raise CorruptObjectError(str(error)) from error
    except IncompatibleCheckpoint as error:
        raise StorageError(f"{error} This is vaesvc {__version__}; MLmodel beside it names its own") from error
    except CheckpointError as error:
        raise NotFoundError(str(error)) from error


def _needed(directory: Path) -> Mapping[str, str] | None:
    """Return the package that a model's manifest, or a run's folder, names; None where there is none to be read."""
    for name, key in ((MANIFEST, CODE), (RUNS_CODE, None)):
        try:
            content = json.loads((directory / name).read_bytes())
            named: Mapping[str, str] | None = content if key is None else content.get(key)
        except (OSError, ValueError, AttributeError):
            continue  # which the loader tells
        if named is not None:
            return named
    return None
