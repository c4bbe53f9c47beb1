"""Data sets through a real API into a real S3 server: whole or not named, resumed, and closed to others."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service import wire
from service.artifacts import Artifacts
from service.client import Client
from service.data import housekeeping
from service.data.fetch import Addresses, Bucket
from service.data.housekeeping import sweep
from service.data.sample import sample
from service.data.upload import upload
from service.errors import ConflictError, ForbiddenError, NotFoundError, StorageError, UnavailableError, UsageError
from service.settings import S3Settings
from tests import own_data
from tests.api_server import Api, LossyProxy, running_api, settings_in
from tests.servers import Swift
from vae_models.data import canonical
from vae_models.data import stored as stored_set
from vae_models.data.cache import NodeCache
from vae_models.data.canonical import DATA_JSON
from vae_models.data.errors import DataCorrupt, DataMissing
from vae_models.data.fetch import Download


@pytest.fixture(scope="module")
def api(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    storage = S3Settings.model_validate(artifacts.settings.model_dump())
    folder = tmp_path_factory.mktemp("service")
    with running_api(settings_in(folder, s3=storage, data_set_bytes=10**6)) as running:
        yield running


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with api.client() as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A set of its own for each test."""
    path = tmp_path / "set"
    own_data.write(path, test=request.node.name)
    return path


def digest_of(folder: Path) -> str:
    return canonical.digest_of((folder / DATA_JSON).read_bytes())


def stored(artifacts: Artifacts, folder: Path) -> dict[str, bytes]:
    """What lies in the bucket below the set's digest."""
    uri = artifacts.uri("data", digest_of(folder))
    return {found.uri.removeprefix(f"{uri}/"): artifacts.get_bytes(found.uri) for found in artifacts.list(uri)}


def on_disk(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- there and back -------------------------------------------------------------------------------------------------


def test_a_set_is_brought_and_named(client: Client, artifacts: Artifacts, folder: Path) -> None:
    told: list[Download] = []
    named = upload(folder, "first", client, told.append)
    assert stored(artifacts, folder) == on_disk(folder)
    assert (named.name, named.digest, named.owner, named.files) == ("first", digest_of(folder), "ann", 8)
    assert named.facts.shape == own_data.SHAPE
    assert named.facts.digest == named.digest
    assert (told[-1].done_bytes, told[-1].total_bytes) == (named.bytes, named.bytes)
    assert named in client.data.names()
    detail = client.data.detail("first")
    assert (detail.data, detail.made) == (named, {"range": "0 to 255, as they are"})
    assert [move.digest for move in detail.moves] == [named.digest]
    files = client.data.files("first")
    assert {name: httpx.get(address).content for name, address in files.files.items()} == on_disk(folder)
    piece = httpx.get(files.files["train-x-00000.npy"], headers={"range": "bytes=128-319"})
    assert piece.content == (folder / "train-x-00000.npy").read_bytes()[128:320]


def test_what_is_there_is_not_sent_again(client: Client, folder: Path, tmp_path: Path) -> None:
    text = (folder / DATA_JSON).read_text()
    missing = client.data.missing(digest_of(folder), text)
    assert (missing.missing, len(missing.files)) == (8, 8)
    for file in missing.files[:5]:  # and then the connection is lost
        assert httpx.put(file.address, content=(folder / file.file).read_bytes(), headers=file.headers).is_success
    left = client.data.missing(digest_of(folder), text)
    assert [file.file for file in left.files] == [file.file for file in missing.files[5:]]
    assert left.missing_bytes == sum(file.bytes for file in missing.files[5:])
    for file in missing.files[:5]:
        (folder / file.file).unlink()  # nobody looks at what has arrived
    upload(folder, "resumed", client)
    told: list[Download] = []
    upload(folder, "resumed-again", client, told.append)
    assert told == []


def test_a_bucket_that_lost_a_set_gets_it_again(client: Client, artifacts: Artifacts, folder: Path) -> None:
    digest = upload(folder, "lost", client).digest
    artifacts.delete_prefix(artifacts.uri("data", digest))
    with pytest.raises(ConflictError, match=r"8 of 8 files of the data set .* are not there"):
        client.data.point("lost-too", digest)
    assert upload(folder, "lost", client).digest == digest
    assert stored(artifacts, folder) == on_disk(folder)


def test_many_files_come_in_several_answers(client: Client, artifacts: Artifacts, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    own_data.write(folder, shard_rows=1, sizes=(60, 10, 10), test="many")
    first = client.data.missing(digest_of(folder), (folder / DATA_JSON).read_text())
    assert (first.missing, len(first.files)) == (83, 64)
    assert upload(folder, "many", client).files == 83
    assert stored(artifacts, folder) == on_disk(folder)


def test_answers_that_are_lost_do_no_harm(api: Api, folder: Path) -> None:
    proxy = LossyProxy(api.url, lose=2)
    try:
        with Client(proxy.url, api.token, retry_seconds=20) as client:
            named = upload(folder, "lossy", client)
            proxy.lose = 1
            assert client.data.point("lossy", named.digest) == named
            proxy.lose = 1
            removed = client.data.remove("lossy", named.digest)
    finally:
        proxy.close()
    assert removed == wire.DataRemoved(name="lossy", digest=named.digest, jobs=())
    assert [move.digest for move in api.store.data.moves("lossy")] == [named.digest, None]


def test_a_storage_that_is_killed_is_waited_for(tmp_path: Path) -> None:
    """On an S3 server of its own, which is away when the files are sent."""
    server = Swift(tmp_path / "swift")
    server.start()
    try:
        storage = S3Settings.model_validate(server.storage.model_dump())
        with running_api(settings_in(tmp_path / "service", s3=storage)) as api, api.client() as client:
            folder = tmp_path / "set"
            own_data.write(folder)
            text = (folder / DATA_JSON).read_text()
            missing = client.data.missing(digest_of(folder), text)
            server.kill()
            back = threading.Timer(2.0, server.start)
            back.start()
            from service.data import upload as module

            module._send_all(folder, missing, lambda count: None)
            back.join()
            upload(folder, "killed", client)
            assert stored(Artifacts(server.storage), folder) == on_disk(folder)
    finally:
        server.stop()


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_signed_address_takes_these_bytes_only(client: Client, artifacts: Artifacts, folder: Path) -> None:
    missing = client.data.missing(digest_of(folder), (folder / DATA_JSON).read_text())
    file = missing.files[0]
    data = (folder / file.file).read_bytes()
    other = bytes(byte ^ 1 for byte in data)
    longer = {**file.headers, "content-length": str(len(data) + 1)}
    assert httpx.put(file.address, content=other, headers=file.headers).status_code == 400
    assert httpx.put(file.address, content=data + b"x", headers=longer).status_code == 403
    assert httpx.put(file.address, content=data).status_code == 403  # without its sum
    elsewhere = file.address.replace("/data/", "/checkpoints/")
    assert httpx.put(elsewhere, content=data, headers=file.headers).status_code == 403
    assert httpx.get(file.address).status_code == 403
    assert stored(artifacts, folder) == {}
    assert httpx.put(file.address, content=data, headers=file.headers).status_code == 200


def test_a_file_that_was_changed_is_refused(client: Client, folder: Path) -> None:
    path = folder / "val-x-00000.npy"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(
        StorageError, match=r"val-x-00000.npy is not what data.json says: its SHA-256 differs. Make the"
    ):
        upload(folder, "changed", client)
    path.write_bytes(data[:-1])
    with pytest.raises(
        UsageError, match=r"val-x-00000.npy has 2,047 bytes, and data.json says 2,048: make the set anew"
    ):
        upload(folder, "changed", client)
    path.unlink()
    with pytest.raises(UsageError, match=r"val-x-00000.npy cannot be read"):
        upload(folder, "changed", client)
    with pytest.raises(NotFoundError):
        client.data.detail("changed")


def test_no_name_before_every_file_is_there(client: Client, artifacts: Artifacts, folder: Path) -> None:
    digest, text = digest_of(folder), (folder / DATA_JSON).read_text()
    with pytest.raises(NotFoundError, match=r"no data set .* is known here"):
        client.data.point("half", digest)
    for file in client.data.missing(digest, text).files[1:]:
        assert httpx.put(file.address, content=(folder / file.file).read_bytes(), headers=file.headers).is_success
    with pytest.raises(ConflictError, match=r"1 of 8 files of the data set .* are not there, train-x-00000.npy first"):
        client.data.point("half", digest)
    artifacts.put_bytes(artifacts.uri("data", digest, "train-x-00000.npy"), b"cut short")
    with pytest.raises(ConflictError, match=r"train-x-00000.npy first"):
        client.data.point("half", digest)
    assert upload(folder, "half", client).digest == digest


HOSTILE: dict[str, Any] = {"format": 1, "spec": {}, "splits": {f"s{i}": {"x": []} for i in range(3000)}}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (HOSTILE, r"data.json: splits\.s0.*\.\.\. and \d"),
        ([], "data.json: "),
        ({"format": 1}, r"data.json: spec: is missing"),
    ],
    ids=["three thousand mistakes", "a list", "half"],
)
def test_a_wrong_data_json_is_told_in_ten_lines(client: Client, value: Any, told: str) -> None:
    data = canonical.encode(value)
    with pytest.raises(UsageError, match=f"(?s){told}") as caught:
        client.data.missing(canonical.digest_of(data), data.decode())
    assert len(str(caught.value).splitlines()) <= 11
    assert len(str(caught.value)) < 12_000


def test_what_is_too_large_or_misnamed_is_refused(client: Client, tmp_path: Path, folder: Path) -> None:
    own_data.write(tmp_path / "large", sizes=(6000, 10, 10), shard_rows=6000)
    with pytest.raises(UsageError, match=r"the set has 1,2.* bytes; at most 1,000,000 are taken .*data_set_bytes"):
        upload(tmp_path / "large", "large", client)
    text = (folder / DATA_JSON).read_text()
    with pytest.raises(UsageError, match=r"digest: aaaa.* is not the SHA-256 of data.json"):
        client.data.missing("a" * 64, text)
    with pytest.raises(UsageError, match=r"mnist is a published data set's name: choose another, such as my-mnist"):
        upload(folder, "mnist", client)
    for name in ("../x", "a b", "-x", "x" * 101, "é"):
        with pytest.raises((UsageError, NotFoundError)):
            client.data.point(name, digest_of(folder))
    with pytest.raises(UsageError, match="holds no data set"):
        upload(tmp_path / "none", "none", client)


# --- whose ----------------------------------------------------------------------------------------------------------


def test_others_read_a_name_and_do_not_move_it(api: Api, client: Client, folder: Path, tmp_path: Path) -> None:
    upload(folder, "anns", client)
    other = tmp_path / "other"
    own_data.write(other, seed=1)
    with api.user("bob") as bob, api.user("root", admin=True) as root:
        assert bob.data.detail("anns").data.owner == "ann"
        assert bob.data.files("anns").digest == digest_of(folder)
        with pytest.raises(ForbiddenError, match=r"anns is ann's: only ann or an administrator .* you are bob"):
            upload(other, "anns", bob)
        with pytest.raises(ForbiddenError):
            bob.data.remove("anns", digest_of(folder))
        assert upload(other, "anns", root).owner == "ann"
        assert root.data.remove("anns", digest_of(other)).digest == digest_of(other)


def test_where_users_see_their_own_only(artifacts: Artifacts, tmp_path: Path, folder: Path) -> None:
    storage = S3Settings.model_validate(artifacts.settings.model_dump())
    with (
        running_api(settings_in(tmp_path / "service", s3=storage, read="own")) as api,
        api.client() as ann, api.user("bob") as bob, api.user("root", admin=True) as root,
    ):  # fmt: skip
        named = upload(folder, "mine", ann)
        assert bob.data.names() == []
        assert root.data.names() == ann.data.names() == [named]
        for call in (
            lambda: bob.data.detail("mine"),
            lambda: bob.data.files("mine"),
            lambda: bob.data.remove("mine", named.digest),
        ):
            with pytest.raises(NotFoundError, match="no data set is named 'mine'; `vaesvc data list`"):
                call()
        with pytest.raises(NotFoundError, match=r"no data set .* of yours is stored here"):
            bob.data.point("stolen", named.digest)  # a digest is no secret
        told: list[Download] = []
        assert upload(folder, "bobs", bob, told.append).owner == "bob"  # who has the data may name them
        assert told == []


def test_the_address_of_a_name_is_no_other(api: Api, client: Client, folder: Path) -> None:
    """What is asked of the storage lies below the digest, whatever is asked of the API."""
    upload(folder, "plain", client)
    addresses = client.data.files("plain").files
    assert all(f"/data/{digest_of(folder)}/" in address for address in addresses.values())
    answer = client._http.pool.get("/v1/data/..%2f..%2fjobs/files")
    assert answer.status_code in (404, 422)
    assert json.loads(answer.content)["code"] in ("not_found", "usage")
    shutil.rmtree(folder)


# --- the end --------------------------------------------------------------------------------------------------------


def test_what_nothing_needs_is_swept_away(api: Api, client: Client, artifacts: Artifacts, tmp_path: Path) -> None:
    kept, gone = tmp_path / "kept", tmp_path / "gone"
    own_data.write(kept, test="kept")
    own_data.write(gone, test="gone")
    upload(kept, "kept", client)
    named = upload(gone, "gone", client)
    sweep(api.store.data, artifacts, 0.0)
    assert stored(artifacts, gone) == on_disk(gone)
    client.data.remove("gone", named.digest)
    sweep(api.store.data, artifacts, 60.0)  # not yet
    assert stored(artifacts, gone) == on_disk(gone)
    before = client.data.missing(digest_of(gone), (gone / DATA_JSON).read_text())
    assert before.missing == 0
    api.store.data.begin_removal(named.digest, 0.0)  # and here the dispatcher is killed
    with pytest.raises(UnavailableError, match="is being removed just now"):
        upload(gone, "gone", client)
    sweep(api.store.data, artifacts, 0.0)
    assert stored(artifacts, gone) == {}
    assert stored(artifacts, kept) == on_disk(kept)
    assert upload(gone, "gone", client).digest == named.digest  # from the beginning
    assert stored(artifacts, gone) == on_disk(gone)


def test_files_of_no_set_are_swept_away(
    api: Api, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    stray = artifacts.uri("data", "f" * 64, "train-x-00000.npy")
    artifacts.put_bytes(stray, b"late")
    sweep(api.store.data, artifacts, 0.0)
    assert artifacts.get_bytes(stray) == b"late"  # its upload may be going on
    later = time.time() + 8000
    monkeypatch.setattr(housekeeping.time, "time", lambda: later)
    sweep(api.store.data, artifacts, 0.0)
    with pytest.raises(NotFoundError):
        artifacts.get_bytes(stray)


# --- looking and fetching -------------------------------------------------------------------------------------------


def test_a_sample_is_the_first_data_and_nothing_else_is_read(client: Client, folder: Path, tmp_path: Path) -> None:
    own_data.write(folder, sizes=(90, 10, 10), shard_rows=80, test="sample")
    upload(folder, "sampled", client)
    (tmp_path / "few").mkdir()
    few = sample(client.data.files("sampled"), tmp_path / "few")
    whole = stored_set.read(folder)
    assert few.spec.sizes == (60, 60, 60)
    np.testing.assert_array_equal(few.x("train")[:], whole.x("train")[:60])
    np.testing.assert_array_equal(few.labels("train"), whole.labels("train")[:60])  # type: ignore[index]
    assert few.spec.labels == whole.spec.labels


@pytest.mark.parametrize("way", ["keys", "addresses"])
def test_a_set_is_fetched_to_the_byte(
    client: Client, artifacts: Artifacts, folder: Path, tmp_path: Path, way: str
) -> None:
    named = upload(folder, f"fetched-{way}", client)
    files = client.data.files(f"fetched-{way}")
    source = Bucket(artifacts=artifacts) if way == "keys" else Addresses(files=files)
    told: list[Download] = []
    lease = NodeCache(cache_dir=tmp_path / "cache").lease(named.digest, source, progress=told.append)
    assert on_disk(lease.stored.folder) == on_disk(folder)
    assert (told[-1].done_bytes, told[-1].total_bytes) == (named.bytes, named.bytes)


def test_what_is_damaged_or_gone_is_not_fetched(
    client: Client, artifacts: Artifacts, folder: Path, tmp_path: Path
) -> None:
    named = upload(folder, "damaged", client)
    cache, source = NodeCache(cache_dir=tmp_path / "cache", say=lambda text: None), Bucket(artifacts=artifacts)
    place = artifacts.uri("data", named.digest, "val-x-00000.npy")
    data = artifacts.get_bytes(place)
    artifacts.put_bytes(place, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataCorrupt, match=r"val-x-00000.npy is not what was stored"):
        cache.lease(named.digest, source)
    artifacts.delete_prefix(place)
    with pytest.raises(DataCorrupt, match=r"val-x-00000.npy is missing"):
        cache.lease(named.digest, source)
    artifacts.put_bytes(artifacts.uri("data", named.digest, DATA_JSON), b"{}")
    with pytest.raises(DataCorrupt, match=r"has other bytes for the set"):
        cache.lease(named.digest, source)
    with pytest.raises(DataMissing, match=r"bbbb.* is not in the service's storage: it was removed; add it again"):
        cache.lease("b" * 64, source)
    away = Artifacts(artifacts.settings.model_copy(update={"endpoint_url": "http://127.0.0.1:9"}), patience_seconds=0)
    with pytest.raises(UnavailableError, match="no good answer"):  # which an attempt survives
        cache.lease("b" * 64, Bucket(artifacts=away))
