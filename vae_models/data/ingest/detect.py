"""What a path holds, by its name: pictures, arrays, a table, text or videos."""

from __future__ import annotations

import os
from pathlib import Path

from vae_models.data.errors import DataRefused
from vae_models.data.ingest import decode, files
from vae_models.data.ingest.names import ignored
from vae_models.data.ingest.options import KINDS, Kind

_SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "images": (),
    "arrays": (".npy", ".npz", ".mat", ".h5", ".hdf5", ".safetensors"),
    "table": (".parquet", ".pq", ".csv", ".tsv", ".csv.gz", ".tsv.gz"),
    "text": (".txt", ".text"),
    "video": (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"),
}
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".p")


def kind_of(path: Path, given: Kind | None) -> Kind:
    """Return the kind of data at a path. Raise `DataRefused` where there is nothing, or no kind that is supported."""
    try:
        folder = path.is_dir()
        if not path.exists():
            raise DataRefused(f"{path} does not exist" + (": it is a link to nothing" if path.is_symlink() else ""))
        if not folder and not path.is_file():
            raise DataRefused(f"{path} is neither a file nor a folder")
    except OSError as error:
        raise DataRefused(f"{path} cannot be read: {error.strerror}") from error
    if given is not None:
        return given
    kind = _in_folder(path) if folder else of_name(path.name)
    if kind is not None:
        return kind
    if not folder and path.name.lower().endswith(_PICKLES):
        raise DataRefused(f"{path}: reading a pickle runs the code in it. Save the array as .npy, .npz or .safetensors")
    if not folder and decode.is_picture(path.name):
        raise DataRefused(f"{path} is one picture: give the folder that it is in")
    listed = ", ".join(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
    raise DataRefused(
        f"{path}: nothing that is taken by its name: folders and archives (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz) of "
        f"pictures, {listed}. Say what it is with --as {'|'.join(KINDS)}"
    )


def of_name(name: str) -> Kind | None:
    """Return the kind of data in a file of this name; None where the ending is unknown."""
    lower = name.lower()
    if files.is_archive(Path(name)):
        return "images"
    return next((kind for kind, suffixes in _SUFFIXES.items() if suffixes and lower.endswith(suffixes)), None)


def _in_folder(path: Path) -> Kind | None:
    """Return "images" where there is a picture, else the kind of the first file that is known."""
    first: Kind | None = None
    for _, folders, names in os.walk(path, followlinks=False):
        folders[:] = sorted(name for name in folders if ignored(name) is None)
        for name in sorted(names):
            if ignored(name) is not None:
                continue
            if decode.is_picture(name):
                return "images"
            first = first or of_name(name)
    return first if first is not None else "images"  # which says that there are none
