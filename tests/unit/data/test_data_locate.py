"""Where files are looked for, what is let past, and what is said when nothing is."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.data.conftest import Mirror, somebody_else
from tests.unit.data.publishing import CATALOGUE, places_named, substitute
from vae_models.data.catalogue.records import DataFile, Form
from vae_models.data.errors import DataCorrupt, DataError, DataMissing
from vae_models.data.fetch import Policy
from vae_models.data.locate import Obtained, obtain
from vae_models.data.places import Places
from vae_models.data.published import Published, images

CONTENT = b"the content of the file " * 400
OTHER = b"some other set's content " * 400
QUICK = Policy(timeout_seconds=5, rounds=2, backoff_seconds=0.01)


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


PACKED = gzip.compress(CONTENT, mtime=0)


def _file(*urls: str) -> DataFile:
    return DataFile(
        forms=(
            Form(name="f.gz", sha256=_sum(PACKED), bytes=len(PACKED), urls=urls),
            Form(name="f", sha256=_sum(CONTENT)),
        ),
        content=frozenset({_sum(CONTENT)}),
        home="http://home.example/set",
    )


def _set_of(file: DataFile) -> Published:
    return Published(
        name="a-set", title="A set", facts=images((1, 1, 1), (1, 1, 1)), folder="a_set", builder="", files={"f": file}
    )


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "data" / "a_set").mkdir(parents=True)
    return Places(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")


def _obtain(places: Places, mirror: Mirror | None = None, file: DataFile | None = None, parse=bytes) -> Obtained[bytes]:
    file = file or _file((mirror.url if mirror else "http://127.0.0.1:9/") + "f.gz")
    return obtain(_set_of(file), file, parse, places, policy=QUICK)


@pytest.mark.parametrize("folder", ["a_set", "a-set", "."])
@pytest.mark.parametrize(
    ("name", "stored"), [("f.gz", PACKED), ("f", CONTENT), ("f.gz", gzip.compress(CONTENT, 1, mtime=7))]
)
def test_files_already_there_are_used_packed_or_not(places: Places, folder: str, name: str, stored: bytes) -> None:
    assert places.data_dir is not None
    path = places.data_dir / folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(stored)
    found = _obtain(places)
    assert (found.value, found.name, found.sha256) == (CONTENT, name, _sum(stored))
    assert not places.cache_dir.exists()


def test_a_download_is_kept_and_used_again(places: Places, mirror: Mirror) -> None:
    mirror.files["f.gz"] = PACKED
    assert _obtain(places, mirror).value == CONTENT
    assert _obtain(places, mirror).value == CONTENT
    assert len(mirror.requests) == 1
    assert (places.cache_dir / "a_set" / "f.gz").read_bytes() == PACKED


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("f.gz", PACKED[:-20]),
        ("f.gz", PACKED[:40] + bytes([PACKED[40] ^ 1]) + PACKED[41:]),
        ("f.gz", gzip.compress(CONTENT + b"x")),
        ("f.gz", b""),
        ("f", CONTENT[:-1]),
        ("f", CONTENT[:-1] + b"x"),
    ],
)
@pytest.mark.parametrize("where", ["data", "cache"])
def test_truncated_or_altered_files_are_refused_naming_both_sums(
    places: Places, name: str, stored: bytes, where: str
) -> None:
    path = (places.data_dir if where == "data" else places.cache_dir) / "a_set" / name  # type: ignore[operator]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stored)
    with pytest.raises(DataCorrupt) as refused:
        _obtain(places)
    message = str(refused.value)
    assert str(path) in message
    assert _sum(stored) in message
    assert _sum(PACKED if name == "f.gz" else CONTENT) in message
    assert ("delete it" if where == "cache" else "replace it") in message
    assert path.read_bytes() == stored  # nobody's file is touched


def test_a_file_of_the_right_sum_but_the_wrong_format_is_refused(places: Places) -> None:
    def parse(content: bytes) -> bytes:
        raise ValueError("no IDX")

    assert places.data_dir is not None
    (places.data_dir / "f").write_bytes(CONTENT)
    with pytest.raises(DataCorrupt, match="no IDX"):
        _obtain(places, parse=parse)


def test_missing_and_offline_names_the_file_every_place_and_every_source(places: Places) -> None:
    with pytest.raises(DataMissing) as missing:
        _obtain(places)
    message = str(missing.value)
    assert "a-set: f.gz is missing" in message
    for folder in (
        f"{places.data_dir}/a_set",
        f"{places.data_dir}/a-set",
        f"{places.data_dir}",
        f"{places.cache_dir}/a_set",
    ):
        assert {f"{folder}/f.gz", f"{folder}/f"} <= places_named(message).keys()
    assert "http://127.0.0.1:9/f.gz: [Errno 111] Connection refused" in message
    assert "http://home.example/set" in message
    assert "VAESVC_DATA_DIR=DIR" in message


def test_missing_says_when_no_folder_was_given_or_is_none(places: Places, tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="VAESVC_DATA_DIR is not set"):
        _obtain(replace(places, data_dir=None))
    with pytest.raises(DataMissing, match="nowhere is not a folder"):
        _obtain(replace(places, data_dir=tmp_path / "nowhere"))


def test_a_file_of_the_same_name_of_another_set_is_passed_over_in_a_shared_folder(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MNIST and Fashion-MNIST give their files the same names."""
    other = DataFile(forms=(Form(name="f", sha256=_sum(OTHER)),), content=frozenset({_sum(OTHER)}), home="")
    substitute(monkeypatch, replace(_set_of(other), name="other-set"))
    assert places.data_dir is not None
    (places.data_dir / "f").write_bytes(OTHER)
    with pytest.raises(DataMissing, match=r"data/: f\.gz, f \(there, but of another data set\)"):
        _obtain(places)
    (places.data_dir / "a_set" / "f").write_bytes(OTHER)
    with pytest.raises(DataCorrupt, match="the bytes of a file of other-set"):
        _obtain(places)


class TestWithoutAPublishedSum:
    """`chardata.mat`: its layout is checked, and its sum is remembered."""

    def _file(self, mirror: Mirror) -> DataFile:
        form = Form(name="f.mat", sha256=None, urls=(mirror.url + "f.mat",))
        return DataFile(forms=(form,), content=frozenset(), home="http://home.example")

    def _parse(self, content: bytes) -> bytes:
        if not content.startswith(b"the content"):
            raise ValueError("expected 24,345 images")
        return content

    def test_the_sum_of_the_download_is_recorded_and_held_against_it(self, places: Places, mirror: Mirror) -> None:
        mirror.files["f.mat"] = CONTENT
        file, kept = self._file(mirror), places.cache_dir / "a_set" / "f.mat"
        assert _obtain(places, file=file, parse=self._parse).value == CONTENT
        assert kept.with_name("f.mat.sha256").read_text() == f"{_sum(CONTENT)}  f.mat\n"
        assert _obtain(places, file=file, parse=self._parse).value == CONTENT
        kept.write_bytes(CONTENT + b"!")
        with pytest.raises(DataCorrupt) as refused:
            _obtain(places, file=file, parse=self._parse)
        assert _sum(CONTENT) in str(refused.value)
        assert _sum(CONTENT + b"!") in str(refused.value)

    def test_another_layout_is_refused_and_does_not_stay_in_the_way(self, places: Places, mirror: Mirror) -> None:
        mirror.files["f.mat"] = b"<html>"
        with pytest.raises(DataCorrupt, match="expected 24,345 images"):
            _obtain(places, file=self._file(mirror), parse=self._parse)
        mirror.files["f.mat"] = CONTENT
        assert _obtain(places, file=self._file(mirror), parse=self._parse).value == CONTENT

    def test_fault_13a_a_cache_that_may_only_be_read_serves(self, passable: Path, mirror: Mirror) -> None:
        places = Places(data_dir=None, cache_dir=passable)
        file, folder = self._file(mirror), passable / "a_set"
        folder.mkdir(parents=True)
        (folder / "f.mat").write_bytes(CONTENT)
        folder.chmod(0o555)
        with somebody_else():
            assert _obtain(places, file=file, parse=self._parse).value == CONTENT
        assert [path.name for path in folder.iterdir()] == ["f.mat"]

    def test_fault_13a_a_record_that_a_full_disk_left_empty_is_written_again(
        self, places: Places, mirror: Mirror
    ) -> None:
        folder = places.cache_dir / "a_set"
        folder.mkdir(parents=True)
        (folder / "f.mat").write_bytes(CONTENT)
        (folder / "f.mat.sha256").write_bytes(b"")
        assert _obtain(places, file=self._file(mirror), parse=self._parse).value == CONTENT
        assert (folder / "f.mat.sha256").read_text() == f"{_sum(CONTENT)}  f.mat\n"


@pytest.mark.parametrize("what", ["the folder", "the file"])
def test_fault_13a_what_may_not_be_read_is_named(what: str, passable: Path, tmp_path: Path) -> None:
    folder = passable / "a_set"
    folder.mkdir()
    (folder / "f").write_bytes(CONTENT)
    (folder if what == "the folder" else folder / "f").chmod(0)
    places = Places(data_dir=passable, cache_dir=tmp_path)
    with somebody_else(), pytest.raises(DataError, match=r"cannot read .*Permission denied; let this user read it"):
        _obtain(places)


def test_fault_13a_a_home_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAESVC_CACHE_DIR", "~nobody-of-that-name/cache")
    with pytest.raises(DataError, match="set VAESVC_CACHE_DIR and VAESVC_DATA_DIR to whole paths"):
        Places.from_environment()


def test_places_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("VAESVC_DATA_DIR", "VAESVC_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Places.from_environment() == Places(data_dir=None, cache_dir=tmp_path / ".cache" / "vaesvc")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert Places.from_environment().cache_dir == Path("/x/vaesvc")
    monkeypatch.setenv("VAESVC_CACHE_DIR", "~/c")
    monkeypatch.setenv("VAESVC_DATA_DIR", "~/d")
    assert Places.from_environment() == Places(data_dir=tmp_path / "d", cache_dir=tmp_path / "c")


def test_every_file_of_the_catalogue_has_a_home_an_address_and_the_sums_that_are_published() -> None:
    files = [(a_set.name, key, file) for a_set in CATALOGUE.values() for key, file in a_set.files.items()]
    for name, key, file in files:
        assert file.home.startswith("http")
        assert file.folder is None or not Path(file.folder).is_absolute()
        for sum_ in [*file.content, *(form.sha256 for form in file.forms if form.sha256)]:
            assert len(sum_) in (32, 64), (name, key)
            assert set(sum_) <= set("0123456789abcdef")
    without_a_sum = {name for name, _, file in files if not (file.content or all(form.sha256 for form in file.forms))}
    assert without_a_sum == {
        "omniglot",
        "frey-faces",
        "caltech-silhouettes",
        "cmu-motion",
        "celeba",
        "celeba-hq",
        "bair",
        "bair-12",
        "chairs",
        "faces",
        "yahoo",
    }
    by_hand = {(name, key) for name, key, file in files if file.download is None}
    batches = {(name, f"batch-{i}") for name in ("cifar10", "cifar10-subset") for i in range(1, 6)}
    tests = {("cifar10", "test"), ("cifar10-subset", "test"), ("cifar10-subset", "test-1000")}
    yahoo = {("yahoo", split) for split in ("train", "val", "test")}
    assert by_hand == batches | tests | yahoo | {("celeba-hq", "images"), ("faces", "renders")}


@pytest.mark.parametrize("name", [name for name, a_set in CATALOGUE.items() if a_set.alternatives])
def test_alternatives_name_files_and_the_first_can_be_downloaded(name: str) -> None:
    a_set = CATALOGUE[name]
    assert {key for keys in a_set.alternatives for key in keys} <= set(a_set.files)
    assert all(a_set.files[key].download for key in a_set.alternatives[0])
