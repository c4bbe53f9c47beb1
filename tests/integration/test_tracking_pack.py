"""The runs of a pack in a real MLflow server: one file and one set of threads, and each run has what is its own."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest

from service.errors import UsageError
from service.tracking import PackWriter, open_run, send_spool
from tests.integration.test_tracking import PNG, history, pictures_of
from tests.jobs import make_job
from tests.servers import Mlflow, wait_for

LANES = 11


@pytest.fixture(scope="module")
def uri(mlflow_server: Mlflow) -> str:
    return mlflow_server.uri


def refuse() -> str:
    raise UsageError("this run may not be opened")


def test_lanes_of_a_pack_are_logged_apart(uri: str, tmp_path: Path) -> None:
    threads = threading.active_count()
    writer = PackWriter(uri, tmp_path / "spool.jsonl")
    lanes = [writer.add(partial(open_run, uri, make_job(), number=1)) for _ in range(LANES)]
    assert threading.active_count() - threads < LANES + 2  # three, and those that open runs, for a while
    for step in range(1, 301):
        for place, lane in enumerate(lanes):
            lane.log_metrics(step, {"loss": step + place / 100, "rate": float(place)})
    lanes[3].log_picture(300, "samples", PNG)
    assert writer.close(60) == {}
    assert len({lane.run_id for lane in lanes}) == LANES
    for place, lane in enumerate(lanes):
        assert lane.run_id is not None
        assert history(uri, lane.run_id, "loss") == [(step, step + place / 100) for step in range(1, 301)]
        assert pictures_of(uri, lane.run_id) == ([("samples", 300)] if place == 3 else [])
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_refused_costs_the_others_nothing(uri: str, tmp_path: Path) -> None:
    """What was said of it is left for later, and nothing of the others."""
    writer = PackWriter(uri, tmp_path / "spool.jsonl")
    first = writer.add(partial(open_run, uri, make_job(), number=1))
    refused = writer.add(refuse)
    last = writer.add(partial(open_run, uri, make_job(), number=1))
    for step in range(1, 31):
        for lane in (first, refused, last):
            lane.log_metrics(step, {"loss": float(step)})
    refused.log_picture(30, "samples", PNG)
    left = writer.close(60)
    assert list(left) == [refused]
    for lane in (first, last):
        assert lane.run_id is not None
        assert [step for step, _ in history(uri, lane.run_id, "loss")] == list(range(1, 31))
    later = open_run(uri, make_job(), number=1)
    send_spool(uri, later, left[refused])
    assert [step for step, _ in history(uri, later, "loss")] == list(range(1, 31))
    assert pictures_of(uri, later) == [("samples", 30)]
    assert not list(tmp_path.iterdir())


def test_what_a_silent_server_has_not_taken_is_left_by_run(mlflow_server: Mlflow, uri: str, tmp_path: Path) -> None:
    writer = PackWriter(uri, tmp_path / "spool.jsonl")
    lanes = [writer.add(partial(open_run, uri, make_job(), number=1)) for _ in range(3)]
    for step in range(1, 11):
        for lane in lanes:
            lane.log_metrics(step, {"loss": float(step)})
    run_ids = []
    for lane in lanes:
        wait_for(lambda lane=lane: lane.run_id and len(history(uri, lane.run_id, "loss")) == 10, 60, "no points came")
        run_ids.append(str(lane.run_id))
    mlflow_server.freeze()
    try:
        for step in range(11, 21):
            for lane in lanes[:2]:
                lane.log_metrics(step, {"loss": float(step)})
        left = writer.close(1)
    finally:
        mlflow_server.thaw()
    assert set(lanes[:2]) <= set(left)  # and the third, where the server was frozen before it had answered
    for lane, run_id in zip(lanes, run_ids, strict=True):
        if lane in left:
            send_spool(uri, run_id, left[lane])
        assert [step for step, _ in history(uri, run_id, "loss")] == list(range(1, 11 if lane is lanes[2] else 21))
