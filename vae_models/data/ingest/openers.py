"""The arrays in a file, by name, without reading them: what can be mapped or sliced is. Nothing is unpickled."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vae_models.data.errors import DataError, DataRefused
from vae_models.data.ingest.blocks import Array, Sliced, Zipped, npy_header, of_array

_MOST_MEMBERS = 10_000
_SAFETENSORS = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """matlab: whether the file is MATLAB's, which mostly counts the data in the last dimension."""

    named: dict[str, Sliced | Zipped]
    matlab: bool = False


@contextmanager
def readable(path: Path, kind: str) -> Iterator[None]:
    """Turn what readers raise on damaged files into `DataRefused`."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # scipy, h5py and safetensors raise of everything on altered bytes
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataRefused(f"{path} is no readable {kind}, or is truncated: {text}") from error


def npy(path: Path, opened: ExitStack) -> Arrays:
    """Map a .npy. Raise `DataRefused`."""
    with readable(path, ".npy"):
        with path.open("rb") as file:
            _, _, dtype = npy_header(file)
        _no_objects(path, path.name, dtype)
        return Arrays(named={path.stem: of_array(np.load(path, mmap_mode="r", allow_pickle=False))})


def npz(path: Path, opened: ExitStack) -> Arrays:
    """List the members of a .npz; they are unpacked as they are read. Raise `DataRefused`."""
    named: dict[str, Sliced | Zipped] = {}
    with readable(path, ".npz"), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if len(members) > _MOST_MEMBERS:
            raise DataRefused(f"{path} has {len(members):,} arrays; at most {_MOST_MEMBERS:,} are taken")
        for info in members:
            with archive.open(info) as file:
                shape, by_columns, dtype = npy_header(file)
            name = info.filename.removesuffix(".npy")
            if dtype.hasobject:
                continue  # described by whoever made the file, mostly; said where it is asked for
            if by_columns and len(shape) > 1:
                named[name] = of_array(_member(path, archive, info, shape, dtype))
            else:
                named[name] = Zipped(os.fspath(path), info.filename, shape, dtype)
        if members and not named:
            raise DataRefused(f"{path} holds Python objects alone, which would have to be unpickled: save numbers")
    return Arrays(named=named)


def _member(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    """Return a member in column-major order, which can be read as a whole only."""
    needed, free = info.file_size * 2, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > free:
        raise DataRefused(
            f"{path}: {info.filename} is stored by columns, and takes {needed / 1e9:.1f} GB of memory to read, and "
            f"{free / 1e9:.1f} GB are free: save it with numpy.ascontiguousarray"
        )
    with archive.open(info) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _no_objects(path: Path, name: str, dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise DataRefused(f"{path}: {name} holds Python objects, which would have to be unpickled: save numbers")


def mat(path: Path, opened: ExitStack) -> Arrays:
    """Open MATLAB's file: v7.3 is HDF5; older ones are read as a whole. Raise `DataRefused`."""
    with readable(path, ".mat"):
        with path.open("rb") as file:
            head = file.read(512 + 8)
        if head.startswith(b"\x89HDF") or head[512:].startswith(b"\x89HDF"):
            return hdf5(path, opened)
        import scipy.io

        with _silent():
            listed = scipy.io.whosmat(os.fspath(path))
        numeric = ("uint", "int", "single", "double", "logical")
        names = [name for name, _, kind in listed if kind.startswith(numeric)]
        if not names:
            kinds = ", ".join(f"{name} ({kind})" for name, _, kind in listed) or "nothing"
            raise DataRefused(f"{path} holds no arrays of numbers: {kinds}")
        with _silent():
            loaded = scipy.io.loadmat(os.fspath(path), variable_names=names)
    logical = {name for name, _, kind in listed if kind == "logical"}
    named = {name: loaded[name].astype(bool) if name in logical else loaded[name] for name in names}
    return Arrays(named={name: of_array(np.asarray(array)) for name, array in named.items()}, matlab=True)


@contextmanager
def _silent() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def hdf5(path: Path, opened: ExitStack) -> Arrays:
    """Open a .h5, or MATLAB's v7.3. Raise `DataRefused`; links into other files are not followed."""
    import h5py

    with readable(path, "HDF5 file"):
        file = opened.enter_context(h5py.File(path, "r"))
        arrays: dict[str, Any] = {}

        def keep(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "buif" and not name.startswith("#"):
                arrays[name] = item

        file.visititems(keep)  # follows no links but hard ones
        matlab = any("MATLAB_class" in item.attrs for item in arrays.values())
        named: dict[str, Sliced | Zipped] = {}
        for name, item in arrays.items():
            if item.external or item.is_virtual:
                raise DataRefused(f"{path}: {name} lies in other files: copy it into one (h5repack)")
            shape = tuple(item.shape[::-1] if matlab else item.shape)
            logical = item.attrs.get("MATLAB_class") == b"logical"
            source = _Logical(item) if logical else item
            named[name] = Sliced(source, shape, np.dtype(bool) if logical else item.dtype, reversed=matlab)
    return Arrays(named=named, matlab=matlab)


@dataclass(frozen=True)
class _Logical:
    """MATLAB's truths, which lie in HDF5 as bytes."""

    item: Any

    def __getitem__(self, index: Any) -> Array:
        return np.asarray(self.item[index]).astype(bool)


def safetensors(path: Path, opened: ExitStack) -> Arrays:
    """Open a .safetensors. Raise `DataRefused`."""
    import safetensors as library

    named: dict[str, Sliced | Zipped] = {}
    with readable(path, ".safetensors"):
        file = opened.enter_context(library.safe_open(os.fspath(path), framework="numpy"))
        for name in file.keys():  # noqa: SIM118 - not a mapping
            part = file.get_slice(name)
            kind = part.get_dtype()
            if kind not in _SAFETENSORS:
                raise DataRefused(f"{path}: {name} is {kind}, which numpy has not: save it as F32")
            named[name] = Sliced(part, tuple(part.get_shape()), np.dtype(_SAFETENSORS[kind]))
    return Arrays(named=named)
