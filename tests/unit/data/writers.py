"""Writers of the published formats, made from their descriptions and not from the readers."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray
from PIL import Image


def idx(array: NDArray[np.uint8]) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    return header + bytes(array.flatten().tolist())


def amat(images: NDArray[np.uint8]) -> bytes:
    """As `numpy.savetxt` writes it."""
    text = io.BytesIO()
    np.savetxt(text, images.reshape(len(images), -1), fmt="%d", delimiter=" ", newline="\n")
    return text.getvalue()


def chardata(train: NDArray[np.uint8], test: NDArray[np.uint8], alphabets: int = 50, **changes: Any) -> bytes:
    """[n, 28, 28] each; image i belongs to alphabet i mod `alphabets`."""

    def columns(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.stack([image.flatten(order="F") / 255.0 for image in images], axis=1)

    def one_hot(n: int) -> NDArray[np.uint8]:
        return np.array([[i % alphabets == row for i in range(n)] for row in range(alphabets)], dtype=np.uint8)

    variables = {
        "data": columns(train),
        "target": one_hot(len(train)),
        "testdata": columns(test),
        "testtarget": one_hot(len(test)),
        **changes,
    }
    file = io.BytesIO()
    scipy.io.savemat(file, {name: value for name, value in variables.items() if value is not None})
    return file.getvalue()


def mat(**variables: Any) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=True)
    return file.getvalue()


def svhn(images: NDArray[np.uint8], digits: NDArray[np.int64]) -> bytes:
    """[n, 3, 32, 32] and 0..9, as published: the image number last, the digit 0 written as 10."""
    x = np.stack([np.moveaxis(image, 0, 2) for image in images], axis=3)
    return mat(X=x, y=np.array([[digit or 10] for digit in digits.tolist()], dtype=np.uint8))


def silhouettes(parts: dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]], **changes: Any) -> bytes:
    """{"train": (objects [n, 28, 28] with 1 inside, labels 1..101), ...}: the file has 0 inside."""
    variables: dict[str, Any] = {"classnames": np.array([["a", "b"]], dtype=object)}
    for part, (objects, labels) in parts.items():
        variables[f"{part}_data"] = np.stack([(1 - image).flatten(order="F") for image in objects])
        variables[f"{part}_labels"] = labels[:, None].astype(np.uint8)
    return mat(**{name: value for name, value in {**variables, **changes}.items() if value is not None})


def cifar(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> bytes:
    return b"".join(bytes([label, *image.flatten().tolist()]) for image, label in zip(images, labels, strict=True))


def tar_gz(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def picture(pixels: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    """[h, w] or [h, w, 3] as PNG or JPEG; bool arrays as 1-bit PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def dsprites(images: NDArray[np.uint8], classes: NDArray[np.int64], **changes: Any) -> bytes:
    """With the pickled member that the published file has."""
    members = {
        "metadata": np.array({"title": "dSprites dataset"}, dtype=object),
        "imgs": images,
        "latents_values": classes.astype(np.float64),
        "latents_classes": classes,
        **changes,
    }
    file = io.BytesIO()
    np.savez_compressed(file, **{name: value for name, value in members.items() if value is not None})
    return file.getvalue()


ASF = """# made by a test
:version 1.10
:units
  mass 1.0
  angle deg
:root
   order TX TY TZ RX RY RZ
   axis XYZ
:bonedata
  begin
     id 1
     name lhipjoint
     axis 0 0 0 XYZ
  end
  begin
     id 2
     name lfemur
    dof rx ry rz
    limits (-160.0 20.0)
           (-70.0 70.0)
           (-60.0 70.0)
  end
  begin
     id 3
     name lthumb
    dof rx rz
  end
  begin
     id 4
     name ltibia
    dof rx
  end
:hierarchy
  begin
    root lhipjoint
  end
"""


def amc(frames: list[dict[str, list[float]]], ending: str = "\n") -> bytes:
    lines = ["#!OML:ASF made by a test", ":FULLY-SPECIFIED", ":DEGREES"]
    for number, frame in enumerate(frames, 1):
        lines += [
            str(number),
            *(f"{bone} {' '.join(f'{value:g}' for value in values)}" for bone, values in frame.items()),
        ]
    return (ending.join(lines) + ending).encode()


def cifar_python(images: NDArray[np.uint8], labels: NDArray[np.int64], name: str = "training batch 1 of 5") -> bytes:
    """The Python version's pickle, instruction by instruction, as Python 2 and numpy wrote it (protocol 2)."""

    def text(value: bytes) -> bytes:
        if len(value) < 256:
            return b"U" + bytes([len(value)]) + value
        return b"T" + len(value).to_bytes(4, "little") + value

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"M" + value.to_bytes(2, "little")

    table = images.reshape(len(images), -1)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09"
        b"(K\x01" + number(table.shape[0]) + number(table.shape[1]) + b"\x86"
        b"cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89" + text(table.tobytes()) + b"tb"
    )
    files = b"](" + b"".join(text(f"picture_s_{i:06d}.png".encode()) for i in range(len(images))) + b"e"
    return (
        b"\x80\x02}q\x01("
        + text(b"batch_label") + b"q\x02" + text(name.encode()) + b"q\x03"
        + text(b"labels") + b"q\x04]q\x05(" + b"".join(number(label) for label in labels.tolist()) + b"e"
        + text(b"data") + b"q\x06" + array
        + text(b"filenames") + files
        + b"u."
    )  # fmt: skip
