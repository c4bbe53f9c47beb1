"""Weights from a real HTTP server, a folder, or a path: the right bytes, and clear words for all others."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest
import torch

from tests.unit.data.conftest import Mirror, mirror  # noqa: F401 - a fixture
from vae_models.data.catalogue.records import DataFile, Form
from vae_models.data.errors import DataCorrupt, DataError, DataMissing
from vae_models.data.fetch import Policy
from vae_models.data.places import Places
from vae_models.evaluation.features import weights
from vae_models.evaluation.features.published import FILE, SHA256
from vae_models.evaluation.features.specs import InceptionFeatures

QUICK = Policy(timeout_seconds=5, rounds=2, backoff_seconds=0.01, lock_timeout_seconds=10)
STATE = {"layer.weight": torch.arange(200_000, dtype=torch.float32), "layer.bias": torch.ones(3)}


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


BODY = saved(STATE)
SUM = hashlib.sha256(BODY).hexdigest()


def file_of(url: str, body: bytes = BODY) -> DataFile:
    form = Form(name="w.pth", sha256=hashlib.sha256(body).hexdigest(), bytes=len(body), urls=(url,))
    return DataFile(forms=(form,), content=frozenset(), home="https://example.org/weights")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")


def test_the_published_file_is_named_by_its_sum() -> None:
    form = FILE.forms[0]
    assert form.sha256 == SHA256
    assert form.name == f"pt_inception-2015-12-05-{SHA256[:8]}.pth" == form.urls[0].rpartition("/")[2]


def test_weights_are_downloaded_once(mirror: Mirror, places: Places) -> None:  # noqa: F811
    mirror.files["w.pth"] = BODY
    mirror.cut_after = [300_000]  # and gone on with
    for _ in range(2):
        state = weights.published(file_of(mirror.url + "w.pth"), places, policy=QUICK)
        assert state.keys() == STATE.keys()
        assert torch.equal(state["layer.weight"], STATE["layer.weight"])
    assert [wanted for _, wanted in mirror.requests] == [None, "bytes=300000-"]
    assert (places.cache_dir / "inception" / "w.pth").read_bytes() == BODY


def test_weights_that_were_put_there_need_no_network(places: Places) -> None:
    folder = places.data_dir / "inception"
    folder.mkdir(parents=True)
    (folder / "w.pth").write_bytes(BODY)
    assert weights.published(file_of("http://127.0.0.1:9/w.pth"), places, policy=QUICK).keys() == STATE.keys()


@pytest.mark.parametrize(
    "wrong", [BODY[:-1] + b"x", BODY[:5000], b"<html>log in</html>"], ids=["altered", "cut", "page"]
)
def test_other_bytes_are_refused_and_not_kept(mirror: Mirror, places: Places, wrong: bytes) -> None:  # noqa: F811
    mirror.files["w.pth"] = wrong
    with pytest.raises(DataCorrupt) as refused:
        weights.published(file_of(mirror.url + "w.pth"), places, policy=QUICK)
    assert SUM in str(refused.value)
    assert "https://example.org/weights" in str(refused.value)
    assert not list((places.cache_dir / "inception").glob("w.pth"))


def test_a_file_that_was_put_there_and_altered_is_named(places: Places) -> None:
    folder = places.data_dir / "inception"
    folder.mkdir(parents=True)
    (folder / "w.pth").write_bytes(BODY[:5000])
    with pytest.raises(DataCorrupt, match=r"inception/w.pth is truncated or altered.*5,000 bytes"):
        weights.published(file_of("http://127.0.0.1:9/w.pth"), places, policy=QUICK)


def test_absent_weights_are_named_with_where_to_put_them(mirror: Mirror, places: Places) -> None:  # noqa: F811
    for url, cause in ((mirror.url + "w.pth", "HTTP 404"), ("http://127.0.0.1:9/w.pth", "refused")):
        with pytest.raises(DataMissing) as missing:
            weights.published(file_of(url), places, policy=QUICK)
        text = str(missing.value)
        assert "inception: w.pth is missing" in text
        assert f"{places.data_dir}/inception/" in text
        assert url in text
        assert cause in text
        assert "It can be had from https://example.org/weights" in text
        assert "VAESVC_DATA_DIR" in text
        assert "other features" in text


class _Touch:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("what", ["code", "list", "numbers", "text", "empty"])
def test_files_that_are_no_weights_are_refused_and_run_no_code(what: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    contents = {
        "code": lambda: saved({"a": _Touch(made)}),
        "list": lambda: saved([torch.ones(2)]),
        "numbers": lambda: saved({"a": 1}),
        "text": lambda: b"no file of torch's",
        "empty": lambda: b"",
    }
    path = tmp_path / "w.pth"
    path.write_bytes(contents[what]())
    with pytest.raises(DataCorrupt, match=f"{path}: it"):
        weights.at(str(path), hashlib.sha256(path.read_bytes()).hexdigest())
    assert not made.exists()


def test_weights_at_a_path(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with pytest.raises(DataMissing, match=f"there is no {path}"):
        weights.at(str(path), SUM)
    path.write_bytes(BODY)
    assert weights.at(str(path), SUM).keys() == STATE.keys()
    with pytest.raises(DataCorrupt, match=f"has not the SHA-256 {SHA256}"):
        weights.at(str(path), SHA256)
    with pytest.raises(DataError, match="cannot read"):
        weights.at(str(tmp_path), SUM)


def test_weights_of_ones_own_are_in_the_name() -> None:
    assert InceptionFeatures().called() == "inception"
    assert InceptionFeatures(weights="w.pth", sha256=SUM).called() == f"inception_{SUM[:8]}"


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(BODY)
    with pytest.raises(DataCorrupt, match=f"{path}: these are not the weights of the FID's Inception"):
        InceptionFeatures(weights=str(path), sha256=SUM).build(torch.device("cpu"))
