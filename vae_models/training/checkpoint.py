"""A checkpoint is data: tensors in safetensors, everything else in JSON, and a manifest of sums that is written last.

    model.safetensors     the model's parameters and buffers
    training.safetensors  optimizer, beta controller, losses since the last log
    state.json            position and the rest of the loop's state
    config.json           the run's `TrainConfig`
    manifest.json         {"format": 1, "step": ..., "files": {name: {"sha256": ..., "bytes": ...}}, "metrics": {...}}

A directory without a manifest is not a checkpoint. Nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from vae_models.config.train import TrainConfig
from vae_models.measures import STORED
from vae_models.training.errors import CheckpointError, CorruptCheckpoint, IncompatibleCheckpoint, NoRoom

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "CheckpointError",
    "CorruptCheckpoint",
    "IncompatibleCheckpoint",
    "Manifest",
    "NoRoom",
    "Snapshot",
    "load_model",
    "read",
    "read_model",
    "verify",
    "write",
]

FORMAT = 1
MANIFEST = "manifest.json"
MODEL, TRAINING, STATE, CONFIG = "model.safetensors", "training.safetensors", "state.json", "config.json"
FILES = (MODEL, TRAINING, STATE, CONFIG)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, kw_only=True)
class FileSum:
    sha256: str  # hexadecimal
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`metrics` are those measured on exactly these weights; a checkpoint between evaluations has none of `val/…`."""

    step: int
    files: Mapping[str, FileSum]
    metrics: Mapping[str, float] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a run goes on from."""

    manifest: Manifest
    config: TrainConfig
    model: Mapping[str, Tensor]
    training: Mapping[str, Tensor]
    state: Mapping[str, Any]


def write(
    directory: Path,
    *,
    step: int,
    config: TrainConfig,
    model: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    state: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> Manifest:
    """Write the checkpoint `directory`, which must not exist yet, whole or not at all:
    a neighbour is filled and renamed.

    `state` must be JSON and hold "data_shape". Metrics that are not finite are left out. Every file is synced before
    the renaming. Raise NoRoom if the disk is full; nothing is left behind then.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        with room_for(directory):
            _write_tensors(partial / MODEL, model)
            _write_tensors(partial / TRAINING, training)
            _write_text(partial / STATE, json.dumps(dict(state), indent=1, allow_nan=False))
            _write_text(partial / CONFIG, config.model_dump_json(indent=1))
            manifest = Manifest(
                step=step,
                files={name: _sum(partial / name) for name in FILES},
                metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
            )
            _write_text(partial / MANIFEST, json.dumps(asdict(manifest), indent=1, allow_nan=False))
            _sync(partial)
            partial.chmod(0o755)  # mkdtemp's 0700 would hide it from others
            partial.rename(directory)
            _sync(directory.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Turn the system's "disk full" into NoRoom, with the place, the free bytes and a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise NoRoom(
            f"no room for {path}: {error.strerror} ({_free(path)}). The last checkpoint is untouched: free some "
            "space, or put the run on a larger disk, and start it again; it goes on from there."
        ) from error


def _free(path: Path) -> str:
    existing = next(parent for parent in path.absolute().parents if parent.exists())
    return f"{shutil.disk_usage(existing).free / 2**20:.1f} MiB free"


def verify(directory: Path) -> Manifest:
    """Return the manifest, if every file has the recorded length and sum.

    Raise CorruptCheckpoint that names the file and both lengths or sums otherwise.
    """
    manifest = read_manifest(directory)
    for name, promised in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise CorruptCheckpoint(f"{path} is missing; its manifest promises {promised.bytes} bytes")
        sha256 = _sum(path)
        if sha256 != promised:
            raise CorruptCheckpoint(
                f"{path} is not what was written: it has SHA-256 {sha256.sha256} ({sha256.bytes} bytes), "
                f"its manifest says {promised.sha256} ({promised.bytes} bytes)"
            )
    return manifest


def read(directory: Path) -> Snapshot:
    """Return everything, on the CPU. It trusts the sums: call `verify` first where that has not been done."""
    from safetensors.torch import load_file

    manifest = read_manifest(directory)
    return Snapshot(
        manifest=manifest,
        config=_config(directory),
        model=load_file(directory / MODEL),
        training=load_file(directory / TRAINING),
        state=json.loads((directory / STATE).read_bytes()),
    )


def load_model(directory: Path) -> tuple[nn.Module, TrainConfig]:
    """Return the model, verified, on the CPU, ready for evaluation, and the config of the run that made it."""
    import torch
    from safetensors.torch import load_file

    verify(directory)
    config = _config(directory)
    data_shape = tuple(json.loads((directory / STATE).read_bytes())["data_shape"])
    with torch.random.fork_rng(devices=[]):
        model = config.model.build(data_shape).to(getattr(torch, config.dtype))
    model.load_state_dict(load_file(directory / MODEL))
    return model.eval(), config


def read_model(directory: Path) -> dict[str, Tensor]:
    """Return the model's parameters and buffers, on the CPU, of a checkpoint or of any other folder of a model. It
    trusts the sums."""
    from safetensors.torch import load_file

    return load_file(directory / MODEL)


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest alone, checked for its form, not against the files."""
    path = directory / MANIFEST
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CorruptCheckpoint(f"{directory} has no {MANIFEST}: it was not written to its end") from None
    except ValueError as error:
        raise CorruptCheckpoint(f"{path} is not JSON: {error}") from None
    version = data.get("format") if isinstance(data, dict) else None
    if version != FORMAT:
        raise IncompatibleCheckpoint(f"{path} has format {version!r}; this version reads format {FORMAT}")
    try:
        files = {str(name): FileSum(**entry) for name, entry in data["files"].items()}
        manifest = Manifest(step=int(data["step"]), files=files, metrics=dict(data["metrics"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptCheckpoint(f"{path} is damaged: {error!r}") from None
    if set(files) != set(FILES):
        raise CorruptCheckpoint(f"{path} lists {sorted(files)}; it must list {sorted(FILES)}")
    return manifest


def _config(directory: Path) -> TrainConfig:
    try:
        return TrainConfig.model_validate_json((directory / CONFIG).read_bytes(), context=STORED)
    except ValidationError as error:
        raise IncompatibleCheckpoint(f"{directory / CONFIG} is not a config of this version: {error}") from error


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(_apart(tensors), path)
    except SafetensorError as error:
        for number in _FULL:  # the library wraps the system's error in its own, as text
            if f"os error {number})" in str(error):
                raise OSError(number, os.strerror(number), str(path)) from error
        raise
    _sync(path)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, no two sharing memory:
    a layer that gates share has several names, each written.
    """
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        copied = tensor.detach().cpu().contiguous()
        result[name] = copied.clone() if copied.data_ptr() in seen else copied
        seen.add(copied.data_ptr())
    return result


def _write_text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
    """Sync to the disk: a file's bytes, or a directory's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sum(path: Path) -> FileSum:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileSum(sha256=digest.hexdigest(), bytes=file.tell())
