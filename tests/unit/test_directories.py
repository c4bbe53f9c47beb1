from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.artifacts import parse
from service.directories import CorruptObjectError, read_manifest, replace_directory, write_all
from service.errors import StorageError, UsageError


def test_parse() -> None:
    assert parse("s3://bucket/a/b c/ü") == ("bucket", "a/b c/ü")
    assert parse("s3://bucket") == ("bucket", "")


@pytest.mark.parametrize(
    "uri", ["", "bucket/key", "file:///tmp/x", "s3:///key", "s3://me:secret@bucket/key", "s3://b/k?x=1"]
)
def test_what_is_no_address_is_refused_without_its_secret(uri: str) -> None:
    with pytest.raises(UsageError, match="must look like s3://BUCKET/KEY") as caught:
        parse(uri)
    assert "secret" not in str(caught.value)


def test_a_manifest() -> None:
    data = json.dumps({"format": 1, "files": {"a/b": {"sha256": "00", "bytes": 3}}, "step": 1}).encode()
    assert read_manifest(data, "here") == {"a/b": ("00", 3)}


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b", "", ".", "manifest.json", "a\\b"])
def test_a_manifest_cannot_name_files_outside(name: str) -> None:
    data = json.dumps({"files": {name: {"sha256": "00", "bytes": 3}}}).encode()
    with pytest.raises(CorruptObjectError, match="not a path inside"):
        read_manifest(data, "here")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"files": {"a": {}}}', b'{"files": {"a": {"sha256": 1, "bytes": "x"}}}']
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptObjectError, match="here is not a manifest"):
        read_manifest(data, "here")


def test_a_full_disk_is_named() -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(StorageError, match="/dev/full is full"):
        write_all(full, b"x")


def test_a_directory_replaces_another(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_directory(tmp_path / "new", tmp_path / "old")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["old", "old/new"]
