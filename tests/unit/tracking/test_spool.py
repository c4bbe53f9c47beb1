from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from service.tracking.spool import Metrics, Picture, Spool, encode
from service.tracking.writer import RunWriter


def metrics(step: int, **values: float) -> Metrics:
    return Metrics(step=step, at=1_000 + step, values=values)


def steps(spool: Spool, start: int = 0, limit: int = 1000) -> list[int]:
    return [item.step for item in spool.read("metrics", start, limit)[0]]


def test_lines_come_back_by_kind_and_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    items = [metrics(1, a=0.1, b=math.inf), Picture(step=1, at=5, name="n", png=b"\0\xff"), metrics(2, a=math.nan)]
    spool.append(b"".join(map(encode, items)))
    (first, second), end = spool.read("metrics", 0, 1000)
    assert isinstance(first, Metrics)
    assert (first.step, first.at, first.values, first.start) == (1, 1001, {"a": 0.1, "b": math.inf}, 0)
    assert isinstance(second, Metrics)
    assert math.isnan(second.values["a"])
    (picture,), _ = spool.read("picture", 0, 1)
    assert isinstance(picture, Picture)
    assert (picture.name, picture.png) == ("n", b"\0\xff")
    assert spool.read("metrics", end, 1000) == ([], end)


def test_reading_goes_on_where_it_ended(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append(b"".join(encode(metrics(step, a=1.0, b=2.0)) for step in range(10)))
    at, seen = 0, []
    for _ in range(4):
        items, at = spool.read("metrics", at, 6)  # points, two a line
        seen.append([item.step for item in items])
    assert seen == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


@pytest.mark.parametrize(
    "cut", [b'{"kind":"metrics","st', b'{"kind":"metrics","step":1,"at":1,"values":{"a":1', b"\0\0\0", b"\n"]
)
def test_a_line_that_was_cut_short_harms_no_other(tmp_path: Path, cut: bytes) -> None:
    first = Spool(tmp_path / "spool")
    first.append(encode(metrics(1, a=1.0)))
    first.append(cut)
    assert steps(first) == [1]
    again = Spool(tmp_path / "spool")
    again.append(encode(metrics(2, a=1.0)))
    assert steps(again) == [1, 2]


def test_marks_survive_and_nonsense_counts_as_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.append(encode(metrics(1, a=1.0)) + encode(metrics(2, a=1.0)))
    _, middle = spool.read("metrics", 0, 1)
    spool.mark("metrics", middle)
    assert Spool(tmp_path / "spool").sent == {"metrics": middle, "picture": 0}
    for nonsense in ("", "[]", '{"metrics": 1e9}', '{"metrics": -1}', '{"metrics": "x"}'):
        (tmp_path / "spool.sent").write_text(nonsense)
        assert Spool(tmp_path / "spool").sent["metrics"] == 0
    spool.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_points_and_nothing_else(tmp_path: Path) -> None:
    """Training goes on, the loss is counted, and the end is not held up."""
    (tmp_path / "spool").symlink_to("/dev/full")
    writer = RunWriter("http://127.0.0.1:9", "0" * 32, tmp_path / "spool")
    for step in range(10):
        writer.log_metrics(step, {"a": 1.0})
    begun = time.monotonic()
    assert writer.close(0.5) == tmp_path / "spool"
    assert time.monotonic() - begun < 20
    assert writer.dropped == 10
    writer.log_metrics(11, {"a": 1.0})
    assert writer.dropped == 11


def test_no_room_in_memory_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tracking.outbox.QUEUE_PICTURE_BYTES", 100)
    (tmp_path / "spool").symlink_to("/dev/full")
    writer = RunWriter("http://127.0.0.1:9", "0" * 32, tmp_path / "spool")
    for step in range(3):
        writer.log_picture(step, "samples", bytes(60))
    assert writer.dropped == 2
    writer.close(0)


def test_the_lines_of_several_runs_are_told_apart(tmp_path: Path) -> None:
    """What is left of a run is a spool of its own, as `RunWriter` reads it: what is delivered is left out of it."""
    spool = Spool(tmp_path / "spool")
    items = [Metrics(step=step, at=step, values={"a": 1.0}, run=run) for step in range(1, 4) for run in range(3)]
    spool.append(b"".join(map(encode, items)))
    spool.append(encode(Picture(step=1, at=1, name="n", png=b"\0", run=1)))
    assert [(item.step, item.run) for item in spool.read("metrics", 0, 1000)[0]] == [
        (step, run) for step in range(1, 4) for run in range(3)
    ]
    _, middle = spool.read("metrics", 0, 4)  # step 1 of all, and step 2 of run 0
    spool.mark("metrics", middle)
    assert spool.split(1, tmp_path / "rest", whole=False)
    assert steps(Spool(tmp_path / "rest")) == [2, 3]
    assert [item.run for item in Spool(tmp_path / "rest").read("metrics", 0, 1000)[0]] == [0, 0]
    assert len(Spool(tmp_path / "rest").read("picture", 0, 1)[0]) == 1
    assert spool.split(0, tmp_path / "first", whole=False)
    assert steps(Spool(tmp_path / "first")) == [3]
    assert spool.split(0, tmp_path / "whole", whole=True)
    assert steps(Spool(tmp_path / "whole")) == [1, 2, 3]
    assert not spool.split(7, tmp_path / "none", whole=True)
    assert not (tmp_path / "none").exists()
