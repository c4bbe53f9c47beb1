"""Which files of a folder are a trained model, and whether they are what was written.

Three kinds of folders hold one, each with model.safetensors, config.json and a manifest of sums:

    a pulled model   as `vaesvc pull` leaves it
    a checkpoint     as training writes it (`vae_models.training.checkpoint`)
    a run            as `vaesvc run` keeps it: its best checkpoint is taken, or its last
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from vae_models.config.train import TrainConfig
from vae_models.measures import STORED, Goal
from vae_models.training.checkpoint import CONFIG, MANIFEST, MODEL, STATE
from vae_models.training.errors import CheckpointError, CorruptCheckpoint, IncompatibleCheckpoint

Which = Literal["best", "last"]

CHECKPOINTS, PREFIX = "checkpoints", "step-"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A model on the disk, verified: every file has the sum that the manifest promises.

    shape:   of a datum
    metrics: measured on exactly these weights, by name
    code:    the package of a user's own that it needs, as the manifest of a pulled model names it
    vocabulary: `Dataset.vocabulary_digest` of the data that it was trained on; None of other data than text, and of
        models that an earlier version wrote
    """

    folder: Path
    config: TrainConfig
    shape: tuple[int, ...]
    step: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    code: Mapping[str, str] | None = None
    vocabulary: str | None = None

    @property
    def weights(self) -> Path:
        """Return the file of the weights."""
        return self.folder / MODEL


def read(folder: Path, which: Which = "best") -> Stored:
    """Return the model in `folder`. which: of a run's checkpoints.

    Raise CheckpointError where there is none, CorruptCheckpoint where a file is not what was written, and
    IncompatibleCheckpoint for a configuration of another version.
    """
    if not (folder / MANIFEST).is_file() and (folder / CHECKPOINTS).is_dir():
        folder = chosen(folder, which)
    manifest = _manifest(folder)
    _verify(folder, manifest)
    try:
        about = manifest if manifest.get("data_shape") else json.loads((folder / STATE).read_bytes())
        vocabulary = about.get("vocabulary")
        return Stored(
            folder=folder,
            config=_config(folder, manifest.get("code")),
            shape=tuple(int(size) for size in about["data_shape"]),
            step=int(manifest["step"]),
            metrics=dict(manifest.get("metrics") or {}),
            code=manifest.get("code"),
            vocabulary=None if vocabulary is None else str(vocabulary),
        )
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorruptCheckpoint(f"{folder / MANIFEST} is damaged: {error!r}") from None


def chosen(run: Path, which: Which = "best") -> Path:
    """Return the run's best checkpoint by its own goal, where one has its metric; else, and for "last", the last one.

    Raise CheckpointError for a run without a checkpoint.
    """
    folders = sorted(path for path in (run / CHECKPOINTS).glob(f"{PREFIX}*") if (path / MANIFEST).is_file())
    if not folders:
        raise CheckpointError(f"{run} has no whole checkpoint: the run was stopped before it wrote its first")
    if which == "last":
        return folders[-1]
    goal = _goal(folders[-1])
    scores = [(goal.score(_manifest(folder).get("metrics", {}).get(goal.metric)), folder) for folder in folders]
    return max(scores)[1]


def owner(folder: Path) -> Path:
    """Return the run that a checkpoint is one of; any other folder is its own owner."""
    return folder.parent.parent if folder.parent.name == CHECKPOINTS else folder


def _goal(checkpoint: Path) -> Goal:
    """Return the goal of a run, which is all that is read of its configuration here."""
    try:
        stored = json.loads((checkpoint / CONFIG).read_bytes())["checkpoint"]
        return Goal.stored(str(stored["metric"]), stored.get("mode"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpoint(f"{checkpoint / CONFIG} is damaged: {error!r}") from None


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        assert isinstance(manifest["files"], dict)
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} holds no model: it has no {MANIFEST}. Give a folder that `vaesvc pull` or `vaesvc run` made, "
            "or a checkpoint"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise CorruptCheckpoint(f"{path} is no manifest of a model ({type(error).__name__})") from None
    if manifest.get("format") != 1:
        raise IncompatibleCheckpoint(f"{path} has format {manifest.get('format')!r}; this version reads format 1")
    return dict(manifest)


def _verify(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise CorruptCheckpoint unless every file that the manifest names, the model's two among them, has its sum."""
    if missing := sorted({MODEL, CONFIG} - set(manifest["files"])):
        raise CorruptCheckpoint(f"{folder / MANIFEST} does not list {missing[0]}")
    for name, promised in manifest["files"].items():
        if Path(name).name != name:
            raise CorruptCheckpoint(f"{folder / MANIFEST} names {name!r}, which is no file of its folder")
        try:
            with (folder / name).open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CorruptCheckpoint(f"{folder / name} cannot be read: {error.strerror}") from None
        expected = promised.get("sha256") if isinstance(promised, dict) else None
        if actual != expected:
            raise CorruptCheckpoint(
                f"{folder / name} is not what was stored: expected SHA-256 {expected}, found {actual}"
            )


def _config(folder: Path, code: Mapping[str, str] | None) -> TrainConfig:
    try:
        return TrainConfig.model_validate_json((folder / CONFIG).read_bytes(), context=STORED)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        needs = "" if code is None else f" It needs the package {code.get('name')} {code.get('version')}."
        raise IncompatibleCheckpoint(
            f"{folder / CONFIG} is not understood by this version of vaesvc ({place}: {first['msg']}): it was made by "
            f"another version, or with parts of a package that is not here.{needs}"
        ) from None
