"""What is broken, dangerous or unclear is refused in words, and nothing of it is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.data.ingest import bad_inputs
from tests.unit.data.ingest.cases import Bad
from vae_models.data.errors import DataRefused
from vae_models.data.ingest import ingest


def test_there_are_at_least_twenty_five() -> None:
    assert len({case.name for case in bad_inputs.CASES}) == len(bad_inputs.CASES) >= 25


@pytest.mark.parametrize("case", bad_inputs.CASES, ids=lambda case: case.name)
def test_it_is_refused_in_words(case: Bad, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    path = case.make(folder) or folder
    options = case.options
    if options.split_file is not None:
        options = replace(options, split_file=folder / options.split_file)
    with pytest.raises(DataRefused) as refused:
        ingest(path, options, into=tmp_path / "own")
    said = str(refused.value)
    assert all(text in said for text in case.said), said
    assert len(said) < 2000
    assert "\\x" not in said
    own = tmp_path / "own"
    assert not own.exists() or not [place for place in own.iterdir() if place.is_dir()]
