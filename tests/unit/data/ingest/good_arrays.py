"""Arrays as people have them: numpy's files, MATLAB's, HDF5, safetensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from safetensors.numpy import save_file

from tests.unit.data.ingest.cases import Good, Make, all_labels, everything
from vae_models.data.ingest import Options
from vae_models.data.stored import StoredSet

COUNT = 10
# [n, 5, 6]: the first value of datum i is i, the last 255
IMAGES = np.zeros((COUNT, 5, 6), np.uint8)
IMAGES[:, 0, 0], IMAGES[:, 3, 5], IMAGES[:, 1, 2] = np.arange(COUNT), 255, 77
LABELS = np.arange(COUNT) % 3
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(3.0, 2.0, (COUNT, 3))
G = (1, 5, 6)
SIZES = (8, 1, 1)
PIXELS = {(0, 3, 5): 255, (0, 1, 2): 77}


def npy(array: np.ndarray[Any, Any]) -> Make:
    def make(folder: Path) -> Path:
        np.save(folder / "x.npy", array)
        return folder / "x.npy"

    return make


def npz(save: Callable[..., Any], **arrays: np.ndarray[Any, Any]) -> Make:
    def make(folder: Path) -> Path:
        save(folder / "data.npz", **arrays)
        return folder / "data.npz"

    return make


def mat(folder: Path) -> Path:
    """As SVHN: [height, width, channels, n], labels [n, 1]."""
    colour = np.stack([IMAGES, IMAGES, IMAGES // 2], axis=-1).transpose(1, 2, 3, 0)
    scipy.io.savemat(folder / "train.mat", {"X": colour, "y": LABELS[:, None], "meta": {"by": "us"}})
    return folder / "train.mat"


def mat73(folder: Path) -> Path:
    """As MATLAB writes v7.3: HDF5 behind 512 bytes, dimensions in the opposite order."""
    with h5py.File(folder / "new.mat", "w", userblock_size=512) as file:
        for name, values, kind in (
            ("images", IMAGES.transpose(0, 2, 1), "uint8"),
            ("labels", LABELS[:, None], "double"),
        ):
            file[name] = values.astype(float) if kind == "double" else values
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
        file["#refs#/a"] = np.zeros(3)
    with (folder / "new.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\x02IM")
    return folder / "new.mat"


def hdf5(folder: Path) -> Path:
    with h5py.File(folder / "set.h5", "w") as file:
        file.create_dataset("train/images", data=IMAGES, chunks=(3, 5, 6), compression="gzip")
        file["train/labels"] = LABELS
        file["test/images"], file["test/labels"] = IMAGES[:3], LABELS[:3]
    return folder / "set.h5"


def tensors(folder: Path) -> Path:
    save_file({"x": IMAGES, "y": LABELS}, folder / "set.safetensors")
    return folder / "set.safetensors"


def in_order(data: StoredSet) -> None:
    values, labels = everything(data), all_labels(data)
    np.testing.assert_array_equal(values[:, 0, 0, 0] % 3, labels)


def _rows_in_source_order(data: StoredSet) -> None:
    for split in ("train", "val", "test"):
        values = data.x(split)[:][:, 0, 0, 0]  # type: ignore[arg-type]
        np.testing.assert_array_equal(values, np.sort(values))


FLOATS = IMAGES.astype(np.float64) / 255
CASES = [
    Good(name="npy uint8", make=npy(IMAGES), shape=G, sizes=SIZES, pixels=PIXELS, check=_rows_in_source_order),
    Good(name="npy by columns", make=npy(np.asfortranarray(IMAGES)), shape=G, sizes=SIZES, pixels=PIXELS),
    Good(name="npy NCHW", make=npy(IMAGES[:, None]), shape=G, sizes=SIZES, pixels=PIXELS),
    Good(name="npy NHWC", make=npy(np.stack([IMAGES] * 3, -1)), shape=(3, 5, 6), sizes=SIZES, pixels={(2, 1, 2): 77}),
    Good(
        name="npy --axes HWN",
        make=npy(IMAGES.transpose(1, 2, 0)),
        options=Options(axes="HWN"),
        shape=G,
        sizes=SIZES,
        pixels=PIXELS,
    ),
    Good(
        name="npy said to be NHWC",
        make=npy(np.stack([IMAGES[:, :3, :]] * 3, -1)),
        options=Options(axes="NHWC"),
        shape=(3, 3, 6),
        sizes=SIZES,
    ),
    Good(name="npy bool", make=npy(IMAGES > 50), shape=G, support="bits", sizes=SIZES, pixels={(0, 1, 2): 255}),
    Good(
        name="npy zeros and ones",
        make=npy((IMAGES > 50).astype(np.uint8)),
        options=Options(scale="bits"),
        shape=G,
        support="bits",
        sizes=SIZES,
        pixels={(0, 1, 2): 255},
    ),
    Good(
        name="npy uint16",
        make=npy(IMAGES.astype(np.uint16) * 257),
        shape=G,
        support="unit",
        sizes=SIZES,
        pixels={(0, 3, 5): 1.0, (0, 1, 2): 77 / 255},
        tolerance=1e-7,
    ),
    Good(
        name="npy uint16 to bytes",
        make=npy(IMAGES.astype(np.uint16) * 257 + 100),
        options=Options(scale="bytes"),
        shape=G,
        sizes=SIZES,
        pixels={(0, 1, 2): 77},
    ),
    Good(name="npy int64 of bytes", make=npy(IMAGES.astype(np.int64)), shape=G, sizes=SIZES, pixels=PIXELS),
    Good(
        name="npy float64 in [0, 1]",
        make=npy(FLOATS),
        shape=G,
        support="unit",
        sizes=SIZES,
        pixels={(0, 3, 5): 1.0, (0, 1, 2): np.float32(77 / 255)},
    ),
    Good(
        name="npy floats --scale 255",
        make=npy(IMAGES + np.float32(0.0)),
        options=Options(scale="255"),
        shape=G,
        sizes=SIZES,
        pixels=PIXELS,
    ),
    Good(
        name="npy floats --scale signed",
        make=npy(2 * FLOATS - 1),
        options=Options(scale="signed"),
        shape=G,
        support="unit",
        sizes=SIZES,
        pixels={(0, 0, 5): 0.0, (0, 3, 5): 1.0},
    ),
    Good(
        name="npy of the other byte order",
        make=npy(VECTORS.astype(">f8")),
        shape=(3,),
        support="reals",
        sizes=SIZES,
        check=lambda data: np.testing.assert_allclose(np.sort(everything(data), 0), np.sort(VECTORS, 0), rtol=1e-6),
    ),
    Good(
        name="npy sequences",
        make=npy(RNG.normal(size=(COUNT, 5, 2))),
        options=Options(axes="time,feature"),
        shape=(5, 2),
        support="reals",
        sizes=SIZES,
    ),
    Good(
        name="npy tokens",
        make=npy(np.arange(20).reshape(COUNT, 2)),
        options=Options(axes="NT"),
        shape=(2,),
        support="tokens",
        sizes=SIZES,
        check=lambda data: np.testing.assert_equal(data.spec.vocabulary, 20),
    ),
    Good(
        name="npz as Keras has it",
        make=npz(np.savez, x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:3], y_test=LABELS[:3]),
        shape=G,
        sizes=(9, 1, 3),
        pixels=PIXELS,
        check=in_order,
        notes=("val taken from train: 1 each",),
    ),
    Good(
        name="npz as MedMNIST has it",
        make=npz(
            np.savez_compressed,
            **{f"{split}_images": IMAGES[:count] for split, count in (("train", 10), ("val", 4), ("test", 3))},
            **{f"{split}_labels": LABELS[:count, None] for split, count in (("train", 10), ("val", 4), ("test", 3))},
        ),
        shape=G,
        sizes=(10, 4, 3),
        pixels=PIXELS,
        check=in_order,
    ),
    Good(
        name="npz --key --label",
        make=npz(np.savez_compressed, left=IMAGES, right=IMAGES[::-1], kind=LABELS),
        options=Options(key="left", label="kind"),
        shape=G,
        sizes=SIZES,
        check=in_order,
    ),
    Good(
        name="npz by columns",
        make=npz(np.savez, x=np.asfortranarray(IMAGES)),
        shape=G,
        sizes=SIZES,
        pixels=PIXELS,
    ),
    Good(name="mat v5", make=mat, shape=(3, 5, 6), sizes=SIZES, pixels={(2, 1, 2): 38}, check=in_order),
    Good(name="mat v7.3", make=mat73, options=Options(axes="HWN"), shape=G, sizes=SIZES, pixels=PIXELS, check=in_order),
    Good(name="h5", make=hdf5, shape=G, sizes=(9, 1, 3), pixels=PIXELS, check=in_order),
    Good(name="safetensors", make=tensors, shape=G, sizes=SIZES, pixels=PIXELS, check=in_order),
]
