"""Directories in a real S3 server: complete or refused, through crashes, wrong keys and damage."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.artifacts import MANIFEST, Artifacts, Stored, parse
from service.directories import CorruptObjectError
from service.errors import NotFoundError, StorageError, UnavailableError, UsageError, VaesvcError
from tests.servers import Swift


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_directory(directory: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    entries = {name: {"sha256": sha256(data), "bytes": len(data)} for name, data in files.items()}
    (directory / MANIFEST).write_text(json.dumps({"format": 1, "files": entries}))
    return directory


SMALL = {"model.safetensors": b"weights" * 1000, "config.json": b"{}", "deep/er/empty.bin": b""}


@pytest.fixture
def stored(artifacts: Artifacts, tmp_path: Path, request: pytest.FixtureRequest) -> Stored:
    """SMALL, at an address of this test's own."""
    uri = artifacts.uri("directories", request.node.name)
    return artifacts.put_directory(write_directory(tmp_path / "source", SMALL), uri)


def changed(artifacts: Artifacts, **fields: Any) -> Artifacts:
    return Artifacts(artifacts.settings.model_copy(update=fields), patience_seconds=0.3)


def test_a_directory_comes_back_as_it_was(artifacts: Artifacts, stored: Stored, tmp_path: Path) -> None:
    out = artifacts.get_directory(stored.uri, tmp_path / "out", stored.manifest_sha256)
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert found == {**SMALL, MANIFEST: (tmp_path / "source" / MANIFEST).read_bytes()}
    assert stored.manifest_sha256 == sha256(found[MANIFEST])
    assert stored.bytes == sum(map(len, found.values()))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_large_files_go_in_parts(artifacts: Artifacts, tmp_path: Path) -> None:
    data = bytes(range(256)) * (9 * 2**12)  # 9 MiB, two parts
    source = write_directory(tmp_path / "source", {"big": data})
    stored = artifacts.put_directory(source, artifacts.uri("directories/large"))
    tag = artifacts._client.head_object(Bucket=artifacts.settings.bucket, Key=f"{parse(stored.uri)[1]}big")["ETag"]
    assert tag.strip('"').endswith("-2")
    out = artifacts.get_directory(stored.uri, tmp_path / "out", stored.manifest_sha256)
    assert (out / "big").read_bytes() == data


def test_an_incomplete_directory_is_not_stored(artifacts: Artifacts, stored: Stored, tmp_path: Path) -> None:
    source = write_directory(tmp_path / "other", {"a": b"1", "b": b"2"})
    (source / "b").unlink()
    with pytest.raises(CorruptObjectError, match=r"lacks \['b'\]"):
        artifacts.put_directory(source, stored.uri)
    (source / MANIFEST).unlink()
    with pytest.raises(StorageError, match=f"has no {MANIFEST}"):
        artifacts.put_directory(source, stored.uri)
    artifacts.get_directory(stored.uri, tmp_path / "untouched", stored.manifest_sha256)


@pytest.mark.parametrize("name", ["model.safetensors", "deep/er/empty.bin", MANIFEST])
def test_an_altered_object_is_refused_naming_both_sums(
    artifacts: Artifacts, stored: Stored, tmp_path: Path, name: str
) -> None:
    good = (tmp_path / "source" / name).read_bytes()
    bad = b" " + good[1:]
    artifacts.put_bytes(f"{stored.uri}{name}", bad)
    with pytest.raises(CorruptObjectError) as caught:
        artifacts.get_directory(stored.uri, tmp_path / "out", stored.manifest_sha256)
    for part in (f"{stored.uri}{name}", sha256(good), sha256(bad)):
        assert part in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_a_missing_object_is_refused(artifacts: Artifacts, stored: Stored, tmp_path: Path) -> None:
    artifacts.delete_prefix(f"{stored.uri}config.json")
    with pytest.raises(CorruptObjectError, match=r"config\.json is missing"):
        artifacts.get_directory(stored.uri, tmp_path / "out")
    artifacts.delete_prefix(f"{stored.uri}{MANIFEST}")
    with pytest.raises(CorruptObjectError, match="never completed"):
        artifacts.get_directory(stored.uri, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_directory_that_is_there_is_replaced_whole(artifacts: Artifacts, stored: Stored, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stale").write_text("old")
    artifacts.get_directory(stored.uri, tmp_path / "out")
    assert not (tmp_path / "out" / "stale").exists()
    assert (tmp_path / "out" / "config.json").read_bytes() == b"{}"


def test_what_does_not_fit_on_the_disk_is_not_begun(artifacts: Artifacts, tmp_path: Path) -> None:
    manifest = {"format": 1, "files": {"huge": {"sha256": "0" * 64, "bytes": 10**18}}}
    uri = artifacts.uri("directories/huge")
    artifacts.put_bytes(f"{uri}/{MANIFEST}", json.dumps(manifest).encode())
    with pytest.raises(StorageError, match="MiB are needed: free some space"):
        artifacts.get_directory(uri, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_bytes_from_an_offset(artifacts: Artifacts) -> None:
    uri = artifacts.uri("logs/a.log")
    artifacts.put_bytes(uri, b"hello world", "text/plain")
    assert [artifacts.get_bytes(uri, start) for start in (0, 6, 11, 99)] == [b"hello world", b"world", b"", b""]
    with pytest.raises(NotFoundError, match="no such object"):
        artifacts.get_bytes(artifacts.uri("logs/b.log"))


def test_delete_takes_the_directory_and_not_its_neighbour(artifacts: Artifacts) -> None:
    for name in ("7/a", "7/b/c", "70/a"):
        artifacts.put_bytes(artifacts.uri("delete", name), b"x")
    assert [item.uri for item in artifacts.list(artifacts.uri("delete/7"))] == [
        artifacts.uri("delete/7/a"),
        artifacts.uri("delete/7/b/c"),
    ]
    assert artifacts.delete_prefix(artifacts.uri("delete/7")) == 2
    assert artifacts.delete_prefix(artifacts.uri("delete/7")) == 0
    assert [(i.uri, i.bytes) for i in artifacts.list(artifacts.uri("delete"))] == [(artifacts.uri("delete/70/a"), 1)]
    with pytest.raises(UsageError, match="whole bucket"):
        artifacts.delete_prefix(f"s3://{artifacts.settings.bucket}/")


def test_delete_takes_the_parts_of_a_killed_upload(artifacts: Artifacts) -> None:
    client, bucket = artifacts._client, artifacts.settings.bucket
    key = parse(artifacts.uri("killed/big"))[1]
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x")
    assert [u["Key"] for u in client.list_multipart_uploads(Bucket=bucket, Prefix=key)["Uploads"]] == [key]
    artifacts.delete_prefix(artifacts.uri("killed"))
    assert not client.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads")


def test_no_proxy_stands_on_the_way_to_this_machine(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    changed(artifacts).check()


def test_fault_13a_a_profile_that_is_gone_is_not_asked(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the settings have the keys; without them it is the user's own choice, and said in one line."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        with monkeypatch.context() as patch:
            patch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
            patch.setenv(name, "gone")
            door = changed(artifacts)
            door.check()
            assert httpx.get(door.presign(artifacts.uri("nothing"), 60), trust_env=False).status_code == 404
            with pytest.raises(StorageError, match=r"profile \(gone\) could not be found") as caught:
                changed(artifacts, access_key=None, secret_key=None).check()
            assert "\n" not in str(caught.value)


def test_no_library_cuts_its_message_off(artifacts: Artifacts) -> None:
    with pytest.raises(VaesvcError, match=r"Parameter validation failed: Invalid bucket name") as caught:
        changed(artifacts, bucket="not!one").check()
    assert "\n" not in str(caught.value)


def test_a_presigned_address_reads_without_keys_and_ends(artifacts: Artifacts) -> None:
    uri = artifacts.uri("signed")
    artifacts.put_bytes(uri, b"for you")
    address = artifacts.presign(uri, 1)
    assert urllib.request.urlopen(address, timeout=10).read() == b"for you"
    time.sleep(2.1)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(address, timeout=10)


def test_a_bucket_that_comes_and_goes_is_seen_at_once(artifacts: Artifacts) -> None:
    """The embedded server remembers what it knows of buckets; what changes them makes it forget."""
    other = changed(artifacts, bucket="comes-and-goes")
    for _ in range(2):
        with pytest.raises(StorageError, match="does not exist"):
            other.put_bytes(other.uri("folder", "one"), b"1")
        other.ensure_bucket()
        other.put_bytes(other.uri("folder", "one"), b"1")
        assert other.get_bytes(other.uri("folder", "one")) == b"1"
        assert other.delete_prefix(other.uri("folder")) == 1
        other._client.delete_bucket(Bucket="comes-and-goes")


def test_the_bucket_is_made_once_from_many_threads(artifacts: Artifacts) -> None:
    fresh = changed(artifacts, bucket="made-by-many")
    with pytest.raises(StorageError, match=r"does not exist; create it, or name another with VAESVC_S3_BUCKET"):
        fresh.check()
    failures: list[Exception] = []

    def ensure() -> None:
        try:
            Artifacts(fresh.settings).ensure_bucket()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ensure) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    fresh.check()


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"secret_key": "not-the-secret"}, StorageError, r"refused the keys .*VAESVC_S3_SECRET_KEY"),
        ({"access_key": "vaesvc:nobody"}, StorageError, r"refused the keys"),
        ({"bucket": "no-such-bucket"}, StorageError, r"bucket does not exist"),
        ({"bucket": "Not A Bucket"}, StorageError, r"Invalid bucket name"),
        ({"endpoint_url": "http://user:pa55@127.0.0.1:9"}, UnavailableError, r"is the address right"),
    ],
)
def test_wrong_settings_are_told_apart(
    artifacts: Artifacts, fields: dict[str, str], error: type[VaesvcError], says: str
) -> None:
    wrong = changed(artifacts, **fields)
    begun = time.monotonic()
    for call in (wrong.check, lambda: wrong.put_bytes(wrong.uri("x"), b"x"), lambda: wrong.get_bytes(wrong.uri("x"))):
        with pytest.raises(error, match=says) as caught:
            call()
        for secret in (str(artifacts.settings.secret_key), "not-the-secret", "pa55"):
            assert secret not in str(caught.value)
    assert time.monotonic() - begun < 45


def test_the_server_may_die_in_the_middle_of_an_upload(
    swift: Swift, artifacts: Artifacts, stored: Stored, tmp_path: Path
) -> None:
    """kill -9 of the S3 server for 3 s: who is patient completes; who is not leaves a directory without manifest."""
    files = {f"part-{i:02d}": bytes([i]) * 2**16 for i in range(50)}
    source = write_directory(tmp_path / "large", files)
    results: dict[str, Stored | Exception] = {}

    def upload(door: Artifacts, uri: str) -> None:
        try:
            results[uri] = door.put_directory(source, uri)
        except Exception as error:
            results[uri] = error

    kept, lost = artifacts.uri("directories/outage"), stored.uri
    threads = [threading.Thread(target=upload, args=job) for job in ((artifacts, kept), (changed(artifacts), lost))]
    for thread in threads:
        thread.start()
    while not all(f"{uri.rstrip('/')}/part-03" in {i.uri for i in artifacts.list(uri)} for uri in (kept, lost)):
        time.sleep(0.01)
    swift.kill()
    try:
        time.sleep(3)
        assert threads[0].is_alive()
    finally:
        swift.start()
    for thread in threads:
        thread.join(60)
    assert isinstance(results[lost], UnavailableError)
    with pytest.raises(CorruptObjectError, match="never completed"):
        artifacts.get_directory(lost, tmp_path / "refused")
    done = results[kept]
    assert isinstance(done, Stored), done
    out = artifacts.get_directory(kept, tmp_path / "out", done.manifest_sha256)
    assert (out / "part-49").read_bytes() == files["part-49"]


def test_a_silent_server_is_given_up(swift: Swift, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.s3_client.READ_TIMEOUT", 0.5)
    impatient = changed(artifacts)
    swift.freeze()
    try:
        begun = time.monotonic()
        with pytest.raises(UnavailableError, match="no good answer"):
            impatient.check()
        assert time.monotonic() - begun < 30
    finally:
        swift.thaw()
    impatient.check()
