"""Every set of the catalogue: what is said when its files are missing, altered, or of another set."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.unit.data.publishing import CATALOGUE, NOWHERE, load, offline, places_named, substitute
from vae_models.data import locate
from vae_models.data.errors import DataCorrupt, DataMissing
from vae_models.data.places import Places

WITH_FILES = [name for name, a_set in CATALOGUE.items() if a_set.files]
GARBAGE = b"<html>not what was asked for</html>" * 9


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    substitute(monkeypatch, *(offline(a_set) for a_set in CATALOGUE.values()))


@pytest.mark.parametrize("name", WITH_FILES)
def test_offline_and_missing_says_what_where_and_whence(name: str, places: Places) -> None:
    with pytest.raises(DataMissing) as missing:
        load(name, places)
    message, a_set = str(missing.value), CATALOGUE[name]
    first = next(
        file for file in a_set.files.values() if f"{name}: {(file.download or file).name} is missing" in message
    )
    for folder in (places.data_dir, places.data_dir / a_set.folder, places.cache_dir / a_set.folder):  # type: ignore[operator]
        assert f"{folder}/{first.name}" in places_named(message) or first.folder
    assert (f"  {NOWHERE}: [Errno 111] Connection refused" in message) == (first.download is not None)
    assert first.home in message
    assert "VAESVC_DATA_DIR=DIR" in message
    assert not list(Path(places.data_dir).iterdir())  # type: ignore[arg-type]
    for keys in a_set.alternatives[1:]:
        assert all(f"{a_set.files[key].name} (missing)" in message for key in keys)


@pytest.mark.parametrize("name", WITH_FILES)
def test_other_bytes_are_refused_file_by_file(name: str, places: Places) -> None:
    """Where a sum is published: by it. The message has both sums."""
    a_set = CATALOGUE[name]
    for file in a_set.files.values():
        for form in file.forms:
            if form.unpacked or not (form.sha256 or file.content):
                continue
            path = places.data_dir / (file.folder or a_set.folder) / form.name  # type: ignore[operator]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(GARBAGE)
            with pytest.raises(DataCorrupt) as refused:
                locate.obtain(a_set, file, bytes, places)
            message = str(refused.value)
            assert f"{path} is truncated or altered" in message
            assert hashlib.sha256(GARBAGE).hexdigest() in message
            assert (form.sha256 or next(iter(file.content))) in message
            path.unlink()


@pytest.mark.parametrize("name", WITH_FILES)
def test_a_folder_of_other_bytes_is_refused_on_loading(name: str, places: Places) -> None:
    """Where no sum is published the layout gives it away."""
    a_set = CATALOGUE[name]
    for file in a_set.files.values():
        path = places.data_dir / (file.folder or a_set.folder) / file.name  # type: ignore[operator]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(GARBAGE)
    with pytest.raises(DataCorrupt) as refused:
        load(name, places)
    assert hashlib.sha256(GARBAGE).hexdigest() in str(refused.value)
    assert str(places.data_dir) in str(refused.value)
