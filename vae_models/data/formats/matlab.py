"""MATLAB 5 files: Omniglot's `chardata.mat`, SVHN, Frey Faces, Caltech silhouettes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Chardata:
    """Images uint8 [n, 28, 28], upright; labels int64 [n]: the alphabet, 0..49."""

    train: Bytes
    train_labels: Labels
    test: Bytes
    test_labels: Labels


def read_chardata(content: bytes) -> Chardata:
    """Read `chardata.mat` of the IWAE authors (Burda et al. 2016):
    MATLAB 5, an image a column of `data` and `testdata`.

    Pixels are in column-major order and in [0, 1], ink 1; they are rounded to k/255. `target` and `testtarget` are
    one-hot rows of 50 alphabets.
    """
    variables = _variables(content, "data", "target", "testdata", "testtarget")
    parts = []
    for images, labels in (("data", "target"), ("testdata", "testtarget")):
        parts.append((_columns(variables[images], images), _one_hot(variables[labels], labels)))
        if len(parts[-1][0]) != len(parts[-1][1]):
            raise ValueError(f"{images} has {len(parts[-1][0])} columns, {labels} {len(parts[-1][1])}")
    (train, train_labels), (test, test_labels) = parts
    return Chardata(train=train, train_labels=train_labels, test=test, test_labels=test_labels)


def read_svhn(content: bytes) -> tuple[Bytes, Labels]:
    """Read SVHN's cropped digits (Netzer et al. 2011): `X` uint8 (32, 32, 3, n), `y` (n, 1) with 10 for the digit 0.

    Return images [n, 3, 32, 32], labels [n] in 0..9.
    """
    variables = _variables(content, "X", "y")
    x, y = variables["X"], variables["y"]
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[:3] != (32, 32, 3):
        raise ValueError(f"X is {x.dtype} of shape {x.shape}, expected uint8 (32, 32, 3, n)")
    labels = _labels(y, "y", len_of="X", count=x.shape[3], lowest=1, highest=10)
    return np.ascontiguousarray(x.transpose(3, 2, 0, 1)), labels % 10


def read_frey_faces(content: bytes) -> Bytes:
    """Read Frey Faces (S. Roweis): `ff` uint8 (560, n), a frame of 28 rows and 20 columns a column -> [n, 28, 20]."""
    faces = _variables(content, "ff")["ff"]
    if faces.dtype != np.uint8 or faces.ndim != 2 or faces.shape[0] != 560:
        raise ValueError(f"ff is {faces.dtype} of shape {faces.shape}, expected uint8 (560, n)")
    return np.ascontiguousarray(faces.T).reshape(-1, 28, 20)


def read_silhouettes(content: bytes) -> dict[str, tuple[Bytes, Labels]]:
    """Read `caltech101_silhouettes_28_split1.mat` (Marlin et al. 2010).

    Return {"train", "val", "test"}: images, labels 0..100.
    The file has the object as 0 and the background as 1, 784 pixels a row in column-major order. Images come out as
    [n, 28, 28], upright, **1 for the object**, as in papers on deep generative models (Tomczak, Welling 2018).
    """
    names = [name for part in ("train", "val", "test") for name in (f"{part}_data", f"{part}_labels")]
    variables, parts = _variables(content, *names), {}
    for part in ("train", "val", "test"):
        pixels = variables[f"{part}_data"]
        if pixels.ndim != 2 or pixels.shape[1] != 784 or not np.isin(pixels, (0, 1)).all():
            raise ValueError(f"{part}_data has shape {pixels.shape}, expected (n, 784), values 0 and 1")
        count = len(pixels)
        labels = _labels(variables[f"{part}_labels"], f"{part}_labels", f"{part}_data", count, lowest=1, highest=101)
        images = np.uint8(1) - pixels.astype(np.uint8).reshape(-1, 28, 28).transpose(0, 2, 1)
        parts[part] = (np.ascontiguousarray(images), labels - 1)
    return parts


def _variables(content: bytes, *names: str) -> dict[str, Any]:
    import scipy.io

    try:
        variables: dict[str, Any] = scipy.io.loadmat(cast(Any, io.BytesIO(content)), variable_names=list(names))
    except Exception as error:  # scipy raises whatever its parser runs into
        raise ValueError(f"not a readable MATLAB 5 file: {type(error).__name__}: {error}") from error
    absent = [name for name in names if name not in variables]
    if absent:
        raise ValueError(f"variables {', '.join(absent)} are missing; expected {', '.join(names)}")
    return variables


def _labels(values: NDArray[Any], name: str, len_of: str, count: int, *, lowest: int, highest: int) -> Labels:
    labels = values.ravel().astype(np.int64)
    if values.size != count:
        raise ValueError(f"{name} has {values.size} labels, {len_of} {count} images")
    if count and not (labels.min() >= lowest and labels.max() <= highest):
        raise ValueError(f"{name} reaches from {labels.min()} to {labels.max()}, expected {lowest} to {highest}")
    return labels


def _columns(values: NDArray[np.float64], name: str) -> Bytes:
    if values.ndim != 2 or values.shape[0] != 784:
        raise ValueError(f"{name} has shape {values.shape}, expected (784, n)")
    if not (values.min() >= 0 and values.max() <= 1):  # written so that NaN fails too
        raise ValueError(f"{name} reaches from {values.min()} to {values.max()}, expected 0 to 1")
    pixels = np.rint(values * 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.T.reshape(-1, 28, 28).transpose(0, 2, 1))


def _one_hot(values: NDArray[np.uint8], name: str) -> Labels:
    if values.ndim != 2 or not (values.sum(axis=0) == 1).all():
        raise ValueError(f"{name} has shape {values.shape} and is not one-hot down its columns")
    return np.asarray(values.argmax(axis=0), dtype=np.int64)
