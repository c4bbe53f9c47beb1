"""CIFAR-10: the binary version, and the archive of either."""

from __future__ import annotations

import io
import tarfile

import numpy as np
from numpy.typing import NDArray

from vae_models.data.formats import cifar_python

_RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the red, green and blue planes, row-major


def read_cifar(content: bytes, records: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read `data_batch_N.bin` or `test_batch.bin` (Krizhevsky 2009) -> images [records, 3, 32, 32], labels 0..9.

    It may be `data_batch_N` or `test_batch` of the Python version, recognised by its first bytes.
    """
    if content.startswith(cifar_python.MAGIC):
        return cifar_python.read_cifar_python(content, records)
    if len(content) != records * _RECORD:
        raise ValueError(f"{len(content):,} bytes, expected {records * _RECORD:,}: {records:,} records of {_RECORD:,}")
    table = np.frombuffer(content, np.uint8).reshape(records, _RECORD)
    labels = table[:, 0].astype(np.int64)
    if labels.max() > 9:
        at = int(labels.argmax())
        raise ValueError(f"record {at} has label {labels[at]}, expected 0 to 9")
    return np.ascontiguousarray(table[:, 1:]).reshape(records, 3, 32, 32), labels


def read_cifar_archive(content: bytes) -> dict[str, bytes]:
    """Read the decompressed `cifar-10-binary.tar.gz` or `cifar-10-python.tar.gz` -> {"data_batch_1": its bytes, ...},
    all six batch files.
    """
    expected = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    batches = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2].removesuffix(".bin")
                file = archive.extractfile(member) if name in expected else None
                if file is not None:
                    batches[name] = file.read()
    except tarfile.TarError as error:
        raise ValueError(f"not a readable tar archive: {error}") from error
    absent = [name for name in expected if name not in batches]
    if absent:
        raise ValueError(f"the archive has no {', '.join(absent)}")
    return batches
