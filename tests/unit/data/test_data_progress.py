from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from vae_models.data import progress
from vae_models.data.fetch import Download


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _at(done: int, total: int | None = 10_000_000) -> Download:
    left = None if total is None else (total - done) / 1e6
    return Download(
        name="f.gz", url="http://x/f.gz", done_bytes=done, total_bytes=total, bytes_per_second=1e6, seconds_left=left
    )


def _tell(stream: io.StringIO, downloads: list[Download], monkeypatch: pytest.MonkeyPatch) -> None:
    """One report a second."""
    seconds = iter(range(1000))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    report = progress.StderrProgress(stream)
    for download in downloads:
        report(download)


def test_a_line_says_how_much_how_fast_and_how_long() -> None:
    assert progress.describe(_at(4_200_000)) == "f.gz  4.2 of 10.0 MB  1.0 MB/s  6 s left"
    assert progress.describe(_at(4_200_000, None)) == "f.gz  4.2 MB  1.0 MB/s"


def test_a_terminal_gets_one_line_that_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    _tell(stream, [_at(i * 1_000_000) for i in range(11)], monkeypatch)
    assert stream.getvalue().count("\r") == 10
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("0 s left\n")


def test_a_log_gets_a_line_every_ten_seconds_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    _tell(stream, [_at(i * 250_000) for i in range(41)], monkeypatch)
    assert stream.getvalue().count("\n") == 5
    assert "\r" not in stream.getvalue()


def test_what_is_over_at_once_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    _tell(stream, [_at(10_000_000)], monkeypatch)
    assert stream.getvalue() == ""
