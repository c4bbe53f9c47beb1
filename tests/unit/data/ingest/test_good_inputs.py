"""Every input that people have is taken, and its values are those that it shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data.ingest import good_arrays, good_others, good_pictures
from tests.unit.data.ingest.cases import Good, everything
from vae_models.data import stored
from vae_models.data.ingest import ingest

CASES = [*good_pictures.CASES, *good_arrays.CASES, *good_others.CASES]


def test_there_are_at_least_forty() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_taken(case: Good, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    path = case.make(folder) or folder
    options = case.options
    if options.split_file is not None:
        options = replace(options, split_file=folder / options.split_file)
    data = ingest(path, options, into=tmp_path / "own")

    assert data.spec.shape == case.shape
    assert data.spec.support == case.support
    assert data.spec.sizes == case.sizes
    for at, value in case.pixels.items():
        found = everything(data)[(slice(None), *at)].astype(np.float64)
        np.testing.assert_allclose(found, value, rtol=0, atol=case.tolerance, err_msg=f"at {at}")
    classes = None if data.spec.labels is None else data.spec.labels.classes
    assert classes == case.classes
    said = "\n".join(data.manifest.made["notes"])
    assert all(note in said for note in case.notes), said
    if case.check is not None:
        case.check(data)
    stored.read(data.folder, digest=data.digest, sums=True)
    assert [place.name for place in (tmp_path / "own").iterdir() if place.is_dir()] == [data.digest]
