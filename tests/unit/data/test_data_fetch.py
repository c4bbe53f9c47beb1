"""Downloads against a real HTTP server that cuts, lies, refuses and forgets."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.data.conftest import Mirror, somebody_else
from vae_models.data import fetch as fetching
from vae_models.data.catalogue.records import Form
from vae_models.data.errors import DataCorrupt, DataError
from vae_models.data.fetch import Download, Policy, Unreachable, fetch

BODY = bytes(range(256)) * 4000  # about a megabyte
SUM = hashlib.sha256(BODY).hexdigest()
QUICK = Policy(timeout_seconds=5, rounds=3, backoff_seconds=0.01, lock_timeout_seconds=10)


def _form(*urls: str, sha256: str | None = SUM, size: int | None = len(BODY)) -> Form:
    return Form(name="f.bin", sha256=sha256, bytes=size, urls=urls)


def _dead_url() -> str:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}/f.bin"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "set" / "f.bin"


def test_a_file_is_downloaded_and_nothing_else_is_left(mirror: Mirror, target: Path) -> None:
    mirror.files["f.bin"] = BODY
    fetch(_form(mirror.url + "f.bin"), target, policy=QUICK)
    assert target.read_bytes() == BODY
    assert sorted(path.name for path in target.parent.iterdir()) == ["f.bin", "f.bin.lock"]


def test_a_file_that_is_there_is_not_downloaded(mirror: Mirror, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(b"verified elsewhere")
    fetch(_form(mirror.url + "f.bin"), target, policy=QUICK)
    assert mirror.requests == []


def test_a_cut_connection_is_resumed_where_it_was_cut(mirror: Mirror, target: Path) -> None:
    mirror.files["f.bin"] = BODY
    mirror.cut_after = [300_000, 200_000]
    fetch(_form(mirror.url + "f.bin"), target, policy=QUICK)
    assert target.read_bytes() == BODY
    assert [wanted for _, wanted in mirror.requests] == [None, "bytes=300000-", "bytes=500000-"]
    assert mirror.sent == len(BODY)  # no byte twice


def test_a_link_that_is_cut_again_and_again_gets_there(mirror: Mirror, target: Path) -> None:
    mirror.files["f.bin"] = BODY
    mirror.cut_after = [100_000] * 10
    fetch(_form(mirror.url + "f.bin"), target, policy=QUICK)  # 3 rounds only, but each brings something
    assert target.read_bytes() == BODY


def test_another_process_goes_on_with_the_part_of_a_killed_one(mirror: Mirror, target: Path) -> None:
    mirror.files["f.bin"] = BODY
    target.parent.mkdir(parents=True)
    target.with_name("f.bin.part").write_bytes(BODY[:777])
    fetch(_form(mirror.url + "f.bin"), target, policy=QUICK)
    assert target.read_bytes() == BODY
    assert mirror.requests == [("/f.bin", "bytes=777-")]


def test_a_part_that_was_whole_needs_no_request(mirror: Mirror, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("f.bin.part").write_bytes(BODY)
    fetch(_form(mirror.url + "f.bin"), target, policy=QUICK)
    assert target.read_bytes() == BODY
    assert mirror.requests == []


@pytest.mark.parametrize("size", [len(BODY), None])
def test_a_part_that_is_too_long_is_thrown_away(mirror: Mirror, target: Path, size: int | None) -> None:
    mirror.files["f.bin"] = BODY
    target.parent.mkdir(parents=True)
    target.with_name("f.bin.part").write_bytes(BODY + b"more")
    fetch(_form(mirror.url + "f.bin", size=size), target, policy=QUICK)
    assert target.read_bytes() == BODY


def test_a_spoiled_part_costs_a_second_download_only(mirror: Mirror, target: Path) -> None:
    mirror.files["f.bin"] = BODY
    target.parent.mkdir(parents=True)
    target.with_name("f.bin.part").write_bytes(b"spoiled")
    fetch(_form(mirror.url + "f.bin"), target, policy=QUICK)
    assert target.read_bytes() == BODY
    assert [wanted for _, wanted in mirror.requests] == ["bytes=7-", None]


def test_a_server_without_ranges_starts_over(mirror: Mirror, target: Path) -> None:
    mirror.files["f.bin"] = BODY
    mirror.ranges = False
    mirror.cut_after = [300_000]
    fetch(_form(mirror.url + "f.bin"), target, policy=QUICK)
    assert target.read_bytes() == BODY
    assert mirror.sent == 300_000 + len(BODY)


def test_a_server_without_ranges_that_always_cuts_is_given_up(mirror: Mirror, target: Path) -> None:
    mirror.files["f.bin"] = BODY
    mirror.ranges = False
    mirror.cut_after = [300_000] * 100
    with pytest.raises(Unreachable, match="ended after 300,000 of 1,024,000 bytes"):
        fetch(_form(mirror.url + "f.bin"), target, policy=QUICK)
    assert len(mirror.requests) <= 5
    assert not target.exists()


@pytest.mark.parametrize(
    "altered", [BODY[:-1] + b"x", BODY[:-1], BODY + b"x", b"<html>log in</html>", b""], ids=lambda body: str(len(body))
)
def test_altered_bytes_are_refused_naming_both_sums(mirror: Mirror, target: Path, altered: bytes) -> None:
    mirror.files["f.bin"] = altered
    with pytest.raises(DataCorrupt) as refused:
        fetch(_form(mirror.url + "f.bin"), target, policy=QUICK)
    assert SUM in str(refused.value)
    assert hashlib.sha256(altered).hexdigest() in str(refused.value)
    assert mirror.url in str(refused.value)
    assert not target.exists()
    assert not target.with_name("f.bin.part").exists()


def test_the_next_mirror_is_asked_when_one_lies_lacks_or_is_dead(mirror: Mirror, target: Path) -> None:
    mirror.files |= {"bad": BODY[:-1] + b"x", "good": BODY}
    urls = (_dead_url(), mirror.url + "absent", mirror.url + "bad", mirror.url + "good")
    fetch(_form(*urls), target, policy=QUICK)
    assert target.read_bytes() == BODY


def test_one_mirror_finishes_what_another_began(mirror: Mirror, target: Path) -> None:
    mirror.files |= {"first": BODY, "second": BODY}
    mirror.cut_after = [400_000]
    fetch(_form(mirror.url + "first", mirror.url + "second"), target, policy=QUICK)
    assert mirror.requests == [("/first", None), ("/second", "bytes=400000-")]


def test_a_missing_file_is_asked_for_once(mirror: Mirror, target: Path) -> None:
    with pytest.raises(Unreachable, match="HTTP 404"):
        fetch(_form(mirror.url + "f.bin"), target, policy=QUICK)
    assert len(mirror.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(mirror: Mirror, target: Path, status: int) -> None:
    mirror.files["f.bin"] = BODY
    mirror.statuses = [status, status]
    fetch(_form(mirror.url + "f.bin"), target, policy=QUICK)
    assert target.read_bytes() == BODY


def test_a_dead_port_is_reported_soon_with_its_address(target: Path) -> None:
    url, began = _dead_url(), time.monotonic()
    with pytest.raises(Unreachable) as failed:
        fetch(_form(url), target, policy=QUICK)
    assert list(failed.value.causes) == [url]
    assert "refused" in failed.value.causes[url]
    assert time.monotonic() - began < 20


def test_a_server_that_says_nothing_is_left_after_the_timeout(target: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url, began = f"http://127.0.0.1:{silent.getsockname()[1]}/f.bin", time.monotonic()
        with pytest.raises(Unreachable, match="timed out"):
            fetch(_form(url), target, policy=Policy(timeout_seconds=0.2, rounds=2, backoff_seconds=0.01))
        assert time.monotonic() - began < 20


def test_many_at_once_download_it_once(mirror: Mirror, target: Path) -> None:
    """Four processes, as four workers on one machine."""
    mirror.files["f.bin"] = BODY
    program = (
        "import sys; from pathlib import Path; from vae_models.data.catalogue.records import Form;"
        "from vae_models.data.fetch import fetch;"
        f"fetch(Form(name='f.bin', sha256='{SUM}', bytes={len(BODY)}, urls=(sys.argv[1],)), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, mirror.url + "f.bin", str(target)]
    workers = [subprocess.Popen(command, env={**os.environ, "no_proxy": "*"}) for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]
    assert len(mirror.requests) == 1
    assert target.read_bytes() == BODY


def test_a_lock_that_stays_held_is_reported(mirror: Mirror, target: Path) -> None:
    target.parent.mkdir(parents=True)
    with target.with_name("f.bin.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process has held this lock"):
            fetch(_form(mirror.url + "f.bin"), target, policy=Policy(lock_timeout_seconds=0.3))
    assert mirror.requests == []


def test_a_waiting_process_uses_what_the_other_brought(mirror: Mirror, target: Path) -> None:
    target.parent.mkdir(parents=True)
    with target.with_name("f.bin.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=fetch, args=(_form(mirror.url + "f.bin"), target), kwargs={"policy": QUICK})
        waiting.start()
        time.sleep(0.2)
        target.write_bytes(BODY)
    waiting.join(10)
    assert not waiting.is_alive()
    assert mirror.requests == []


def test_a_cache_that_cannot_be_written_says_how_to_mend_it(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot write .* VAESVC_CACHE_DIR"):
        fetch(_form(mirror.url + "f.bin"), tmp_path / "file" / "f.bin", policy=QUICK)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full, a device that is always full, is not here")
def test_a_full_disk_says_so(mirror: Mirror, target: Path) -> None:
    mirror.files["f.bin"] = BODY
    target.parent.mkdir(parents=True)
    target.with_name("f.bin.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match=os.strerror(errno.ENOSPC)):
        fetch(_form(mirror.url + "f.bin"), target, policy=QUICK)


def test_fault_13a_a_disk_without_room_is_named_before_the_download(mirror: Mirror, target: Path) -> None:
    with pytest.raises(DataError, match=r"f\.bin takes 1000000000\.00 GB more in .*VAESVC_CACHE_DIR"):
        fetch(_form(mirror.url + "f.bin", size=10**18), target, policy=QUICK)
    assert mirror.requests == []


def test_fault_13a_a_folder_that_may_not_be_written_is_named(mirror: Mirror, passable: Path) -> None:
    with somebody_else(), pytest.raises(DataError, match=r"Permission denied; make it writable, or set VAESVC_CACHE"):
        fetch(_form(mirror.url + "f.bin"), passable / "f.bin", policy=QUICK)


@pytest.mark.parametrize("proxy", ["http://user:secret@127.0.0.1:9", "http:///nowhere"])
def test_fault_13a_a_proxy_that_does_not_serve_is_named_without_its_password(
    proxy: str, mirror: Mirror, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", proxy)
    url = mirror.url + "f.bin"
    with pytest.raises(Unreachable) as failed:
        fetch(_form(url), target, policy=QUICK)
    assert "(through the proxy " in failed.value.causes[url]
    assert "of http_proxy)" in failed.value.causes[url]
    assert "secret" not in failed.value.causes[url]


def test_fault_13a_a_length_that_is_no_number_is_passed_over(target: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: many\r\n\r\n" + BODY)

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        fetch(_form(f"http://127.0.0.1:{server.getsockname()[1]}/f.bin"), target, policy=QUICK)
        serving.join(10)
    assert target.read_bytes() == BODY


def test_progress_counts_up_to_the_whole_with_the_time_left(
    mirror: Mirror, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.files["f.bin"] = BODY
    monkeypatch.setattr(fetching, "_CHUNK", 100_000)
    clock = iter(range(10_000))
    monkeypatch.setattr(fetching, "time", SimpleNamespace(monotonic=lambda: float(next(clock)), sleep=time.sleep))
    told: list[Download] = []
    fetch(_form(mirror.url + "f.bin"), target, progress=told.append, policy=QUICK)
    assert [download.done_bytes for download in told[:2]] == [100_000, 200_000]
    assert told[0].bytes_per_second == 100_000
    assert told[0].seconds_left == pytest.approx((len(BODY) - 100_000) / 100_000)
    assert told[-1].done_bytes == told[-1].total_bytes == len(BODY)
    assert told[-1].seconds_left == 0
