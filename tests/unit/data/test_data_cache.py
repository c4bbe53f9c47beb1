"""A set reaches a machine once, whole or not at all, whatever is killed meanwhile; and goes when its room is needed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import wait_for
from tests.unit.data import stored_sets
from vae_models import data
from vae_models.data import canonical, own
from vae_models.data.cache import CACHE_BYTES, FolderFetch, NodeCache, Told, most_bytes_of_environment
from vae_models.data.canonical import ShardFile
from vae_models.data.config import DataConfig
from vae_models.data.errors import DataCorrupt, DataError, DataMissing, DataUnfit
from vae_models.data.stored import StoredSet

PROCESSES = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StoredSet]:
    """A folder of sets, as a bucket is one, and its set."""
    folder = tmp_path_factory.mktemp("source")
    return folder, stored_sets.write(folder)


@dataclass(frozen=True, kw_only=True)
class Logged:
    """A source that is slow, and writes down what it was asked for. until: nothing comes before."""

    folder: Path
    log: Path
    seconds: float = 0.0
    until: Callable[[], bool] = lambda: True

    @property
    def source(self) -> str:
        return "a slow source"

    def _write(self, line: str) -> None:
        with self.log.open("a") as file:
            file.write(f"{line}\n")

    def manifest(self, digest: str) -> bytes:
        self._write("manifest")
        return FolderFetch(folder=self.folder).manifest(digest)

    def file(self, digest: str, file: ShardFile, into: Path, told: Told) -> None:
        wait_for(self.until, 60, "nobody waits")
        time.sleep(self.seconds)
        self._write(file.file)
        FolderFetch(folder=self.folder).file(digest, file, into, told)

    def asked(self) -> list[str]:
        return self.log.read_text().splitlines()


def _sets(folder: Path) -> list[str]:
    return [path.name for path in own.folder(folder).iterdir() if len(path.name) == 64]


def _process(work: Callable[..., None], *arguments: Any) -> Any:
    process = PROCESSES.Process(target=work, args=arguments)
    process.start()
    return process


# --- once, whole ----------------------------------------------------------------------------------------------------


def test_a_set_comes_as_it_is(source: tuple[Path, StoredSet], tmp_path: Path) -> None:
    folder, there = source
    told: list[Any] = []
    lease = NodeCache(cache_dir=tmp_path).lease(there.digest, FolderFetch(folder=folder), progress=told.append)
    assert lease.stored.folder == own.folder(tmp_path) / there.digest
    lease.stored.verify()
    assert (told[-1].done_bytes, told[-1].total_bytes) == (there.manifest.bytes, there.manifest.bytes)
    again = NodeCache(cache_dir=tmp_path).lease(there.digest)  # nobody is asked for it again
    assert again.stored.digest == there.digest
    one = FolderFetch(folder=there.folder)  # the folder of the set itself
    assert one.manifest(there.digest) == (there.folder / canonical.DATA_JSON).read_bytes()


def _lease_and_write(cache: Path, digest: str, fetch: Logged, said: Path) -> None:
    def say(sentence: str) -> None:
        with said.open("a") as file:
            file.write(f"{sentence}\n")

    NodeCache(cache_dir=cache, say=say).lease(digest, fetch).stored.verify()


def test_one_process_fetches_and_the_others_wait(source: tuple[Path, StoredSet], tmp_path: Path) -> None:
    folder, there = source
    waiting, said = "another process fetches the set", tmp_path / "said"

    def all_wait() -> bool:
        return said.exists() and said.read_text().count(waiting) == 3

    fetch = Logged(folder=folder, log=tmp_path / "log", until=all_wait)
    processes = [_process(_lease_and_write, tmp_path / "cache", there.digest, fetch, said) for _ in range(4)]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert sorted(fetch.asked()) == sorted(["manifest", *(file.file for file in there.manifest.shards())])
    assert said.read_text().count(waiting) == 3


def test_what_a_killed_process_brought_is_gone_on_with(source: tuple[Path, StoredSet], tmp_path: Path) -> None:
    folder, there = source
    fetch = Logged(folder=folder, log=tmp_path / "log", seconds=0.2)
    process = _process(_lease_and_write, tmp_path / "cache", there.digest, fetch, tmp_path / "said")
    deadline = time.monotonic() + 60
    while not (fetch.log.exists() and len(fetch.asked()) > 3) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert _sets(tmp_path / "cache") == []
    brought = len(fetch.asked())
    NodeCache(cache_dir=tmp_path / "cache").lease(there.digest, fetch).stored.verify()
    files = [line for line in fetch.asked() if line != "manifest"]
    assert brought > 3
    assert len(set(files)) == len(there.manifest.shards())
    assert len(files) <= len(set(files)) + 4  # what was being written when the process ended


def _lease_until_call(cache: Path, digest: str, folder: Path, calls: int) -> None:
    """Ends the process, as a power cut does, just before the so-manieth call that changes the disk."""
    left = [calls]

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return function(*arguments, **named)

        return call

    for name in ("mkdir", "rename", "replace", "fsync", "unlink", "utime"):
        setattr(os, name, counted(getattr(os, name)))
    NodeCache(cache_dir=cache, say=lambda sentence: None).lease(digest, FolderFetch(folder=folder))
    os._exit(0)


@pytest.mark.parametrize("damaged", [False, True], ids=["nothing there", "a damaged set there"])
def test_a_crash_leaves_nothing_or_a_whole_set(tmp_path: Path, damaged: bool) -> None:
    """At each of the calls that change the disk."""
    folder = tmp_path / "source"
    there = stored_sets.write(folder, sizes=(5, 1, 1))
    for calls in range(200):
        cache = tmp_path / str(calls)
        if damaged:
            first = NodeCache(cache_dir=cache).lease(there.digest, FolderFetch(folder=folder))
            (first.stored.folder / first.stored.manifest.splits["train"].x[0].file).write_bytes(b"short")
            first.close()
        process = _process(_lease_until_call, cache, there.digest, folder, calls)
        process.join(timeout=60)
        assert process.exitcode in (0, 9)
        whole = NodeCache(cache_dir=cache, say=lambda sentence: None).lease(there.digest, FolderFetch(folder=folder))
        whole.stored.verify()
        assert _sets(cache) == [there.digest]
        if process.exitcode == 0:
            break
    assert calls > 10


# --- what is not as it should be ------------------------------------------------------------------------------------


def test_a_damaged_set_is_fetched_again(source: tuple[Path, StoredSet], tmp_path: Path) -> None:
    folder, there = source
    said: list[str] = []
    cache = NodeCache(cache_dir=tmp_path, say=said.append)
    cache.lease(there.digest, FolderFetch(folder=folder)).close()
    shard = own.folder(tmp_path) / there.digest / there.manifest.splits["train"].x[1].file
    os.truncate(shard, 10)
    with pytest.raises(DataCorrupt, match="has 10 bytes, expected"):
        cache.lease(there.digest)
    cache.lease(there.digest, FolderFetch(folder=folder)).stored.verify()
    assert len(said) == 1
    assert "It is fetched again" in said[0]


@dataclass(kw_only=True)
class Altered:
    """A source whose bytes are wrong for the first so many files."""

    folder: Path
    wrong: int
    source: str = "s3://bucket/data"

    def manifest(self, digest: str) -> bytes:
        return FolderFetch(folder=self.folder).manifest(digest)

    def file(self, digest: str, file: ShardFile, into: Path, told: Told) -> None:
        FolderFetch(folder=self.folder).file(digest, file, into, told)
        self.wrong -= 1
        if self.wrong >= 0:
            into.write_bytes(bytes(file.bytes))


def test_other_bytes_are_fetched_once_more_and_never_taken(source: tuple[Path, StoredSet], tmp_path: Path) -> None:
    folder, there = source
    said: list[str] = []
    cache = NodeCache(cache_dir=tmp_path, say=said.append)
    with pytest.raises(DataCorrupt, match=r"s3://bucket/data: .*\.npy of the set [0-9a-f]{12} has other bytes"):
        cache.lease(there.digest, Altered(folder=folder, wrong=10**6))
    assert _sets(tmp_path) == []
    cache.lease(there.digest, Altered(folder=folder, wrong=1)).stored.verify()
    assert len(said) == 2


def test_a_set_that_is_nowhere(source: tuple[Path, StoredSet], tmp_path: Path) -> None:
    cache, digest = NodeCache(cache_dir=tmp_path), "0" * 64
    with pytest.raises(DataMissing, match=r"is not in .* and nothing says where to fetch it from"):
        cache.lease(digest)
    with pytest.raises(DataMissing, match=f"has no set {digest}"):
        cache.lease(digest, FolderFetch(folder=source[0]))


@pytest.mark.parametrize("text", ["many", "-5", "0", "1.5"])
def test_a_limit_that_is_no_number(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(CACHE_BYTES, text)
    with pytest.raises(DataError, match=f"{CACHE_BYTES}={text!r} is no number of bytes"):
        most_bytes_of_environment()


# --- room -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> tuple[FolderFetch, list[StoredSet]]:
    """Four sets of about one size."""
    folder = tmp_path_factory.mktemp("four")
    sets = [stored_sets.write(folder, "bytes", (1, 40, 40), sizes=(40 + number, 5, 5)) for number in range(4)]
    return FolderFetch(folder=folder), sets


def _cache(tmp_path: Path, sets: list[StoredSet], room: float, **fields: Any) -> NodeCache:
    most = int(room * max(made.manifest.bytes for made in sets))
    return NodeCache(cache_dir=tmp_path, most_bytes=most, **fields)


def test_what_was_used_longest_ago_goes(four: tuple[FolderFetch, list[StoredSet]], tmp_path: Path) -> None:
    fetch, sets = four
    cache = _cache(tmp_path, sets, 2.5)
    for made in (sets[0], sets[1], sets[0]):
        cache.lease(made.digest, fetch).close()
        time.sleep(0.02)
    cache.lease(sets[2].digest, fetch).close()
    assert sorted(_sets(tmp_path)) == sorted([sets[0].digest, sets[2].digest])


def test_what_is_used_or_cannot_be_fetched_again_stays(
    four: tuple[FolderFetch, list[StoredSet]], tmp_path: Path
) -> None:
    fetch, sets = four
    made_here = stored_sets.write(own.folder(tmp_path), sizes=(99, 5, 5))
    cache = _cache(tmp_path, sets, 2.5)
    named = cache.lease(sets[0].digest, fetch)
    named.close()
    own.point(tmp_path, "photographs", sets[0].digest, "/photographs")
    in_use = cache.lease(sets[1].digest, fetch)
    cache.lease(sets[2].digest, fetch).close()
    cache.lease(sets[3].digest, fetch).close()
    assert sorted(_sets(tmp_path)) == sorted(made.digest for made in (made_here, sets[0], sets[1], sets[3]))
    small = _cache(tmp_path, sets, 1.5)
    with pytest.raises(DataError, match=r"sets that are in use have .* raise that, or wait"):
        small.lease(sets[2].digest, fetch)
    in_use.close()
    small.lease(sets[2].digest, fetch)
    assert sets[1].digest not in _sets(tmp_path)


def _hold(cache: Path, digest: str, fetch: FolderFetch, ready: Path) -> None:
    lease = NodeCache(cache_dir=cache).lease(digest, fetch)
    ready.touch()
    time.sleep(600)
    lease.close()


def test_another_processs_use_counts_until_it_ends(four: tuple[FolderFetch, list[StoredSet]], tmp_path: Path) -> None:
    fetch, sets = four
    ready = tmp_path / "ready"
    process = _process(_hold, tmp_path, sets[0].digest, fetch, ready)
    deadline = time.monotonic() + 60
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    cache = _cache(tmp_path, sets, 1.5)
    with pytest.raises(DataError, match="sets that are in use"):
        cache.lease(sets[1].digest, fetch)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    cache.lease(sets[1].digest, fetch)
    assert _sets(tmp_path) == [sets[1].digest]


def test_a_set_larger_than_the_limit_is_refused(four: tuple[FolderFetch, list[StoredSet]], tmp_path: Path) -> None:
    fetch, sets = four
    with pytest.raises(DataError, match=f"more than the 100 of {CACHE_BYTES}"):
        NodeCache(cache_dir=tmp_path, most_bytes=100).lease(sets[0].digest, fetch)


# --- as data --------------------------------------------------------------------------------------------------------


def test_load_fetches_and_keeps_a_set_of_ones_own(source: tuple[Path, StoredSet], tmp_path: Path) -> None:
    folder, there = source
    facts = there.spec.model_dump(exclude={"digest"})
    config = DataConfig.model_validate({"name": "mine", "digest": there.digest, "facts": facts})
    loaded = data.load(config, cache_dir=tmp_path, fetch=FolderFetch(folder=folder))
    assert (len(loaded.train), loaded.shape, loaded.name) == (50, (1, 4, 5), "mine")
    cache = NodeCache(cache_dir=tmp_path)
    assert not cache._evict(there.digest)
    assert loaded.train.x.shape == (50, 1, 4, 5)
    del loaded
    assert cache._evict(there.digest)
    wrong = DataConfig.model_validate({"name": "mine", "digest": there.digest, "facts": facts | {"sizes": (50, 13, 8)}})
    with pytest.raises(DataUnfit, match=r"data\.facts are not those of the set"):
        data.load(wrong, cache_dir=tmp_path, fetch=FolderFetch(folder=folder))


def test_load_takes_a_set_from_the_folder_that_a_machine_has(source: tuple[Path, StoredSet], tmp_path: Path) -> None:
    folder, there = source
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "own").symlink_to(folder)
    facts = there.spec.model_dump(exclude={"digest"})
    config = DataConfig.model_validate({"name": "mine", "digest": there.digest, "facts": facts})
    loaded = data.load(config, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    assert len(loaded.train) == 50
    with pytest.raises(DataMissing):
        data.load(config, data_dir=tmp_path, cache_dir=tmp_path / "empty")
