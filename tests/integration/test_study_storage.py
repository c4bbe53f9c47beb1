"""What a study keeps in S3: results, checkpoints and rungs, as another process finds them."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from service.artifacts import Artifacts
from service.attempt.context import Copies
from service.directories import CorruptObjectError
from service.errors import UnavailableError
from service.kinds.study.storage import StageStorage, TrialRecord
from service.kinds.study.uploads import TrialUploads
from tests.servers import wait_for
from tuning.local import FileRungs
from tuning.pruners.rules import Memory, Rungs
from tuning.study import Outcome
from vae_models.config.train import TrainConfig
from vae_models.training import checkpoint

CONFIG = TrainConfig.model_validate({"data": {"name": "digits"}, "steps": 9})
KEY, OTHER = "0000-aaaaaaaaaaaa", "0001-bbbbbbbbbbbb"


@pytest.fixture
def stage(artifacts: Artifacts) -> StageStorage:
    return StageStorage(artifacts, f"j{secrets.token_hex(6)}", "rates")


def written(folder: Path, step: int) -> Path:
    path = folder / f"{step}-{secrets.token_hex(3)}"
    checkpoint.write(
        path, step=step, config=CONFIG, model={"w": torch.zeros(3)}, training={"w": torch.ones(3)},
        state={"data_shape": [1, 8, 8]}, metrics={"val/elbo": -float(step)},
    )  # fmt: skip
    return path


def test_what_was_kept_is_found_by_its_key(stage: StageStorage, tmp_path: Path) -> None:
    assert (stage.results(), stage.checkpoints()) == ({}, {})
    stored = stage.put_checkpoint(KEY, 1, 5, written(tmp_path, 5), {"val/elbo": -5.0})
    record = TrialRecord(state="done", value=-5.0, metrics={"val/elbo": -5.0}, steps=5, checkpoint=stored)
    stage.keep(KEY, record)
    stage.keep(OTHER, TrialRecord(state="failed", error="bang"))
    assert stage.results() == {KEY: record, OTHER: TrialRecord(state="failed", error="bang")}
    assert stage.results()[KEY].outcome == Outcome(state="done", value=-5.0, metrics={"val/elbo": -5.0}, steps=5)


def test_checkpoints_newest_first_and_only_complete_ones(
    stage: StageStorage, artifacts: Artifacts, tmp_path: Path
) -> None:
    older, newer = (
        stage.put_checkpoint(KEY, number, step, written(tmp_path, step), {}) for number, step in ((2, 5), (1, 9))
    )
    half = stage.put_checkpoint(KEY, 3, 12, written(tmp_path, 12), {})
    artifacts.delete_prefix(f"{half.uri.rstrip('/')}/manifest.json")
    assert stage.checkpoints() == {KEY: [(9, newer.uri), (5, older.uri)]}
    found = stage.described(newer.uri, 4)
    copies = Copies(artifacts, tmp_path / "copies")
    assert (found.step, found.manifest_sha256, found.uri) == (9, newer.manifest_sha256, newer.uri)
    assert found.metrics == {"val/elbo": -9.0}
    assert checkpoint.verify(copies.fetch(found.uri, found.manifest_sha256)).step == 9
    artifacts.put_bytes(f"{older.uri.rstrip('/')}/model.safetensors", b"damaged")
    with pytest.raises(CorruptObjectError, match=r"model\.safetensors"):
        copies.fetch(older.uri, stage.described(older.uri, 4).manifest_sha256)
    stage.sweep([newer.uri])
    assert stage.checkpoints() == {KEY: [(9, newer.uri)]}


@pytest.mark.parametrize("kind", ["memory", "file", "storage"])
def test_rungs(kind: str, artifacts: Artifacts, tmp_path: Path) -> None:
    """One contract, every implementation; all but the first are found again by another process."""
    memory, job = Memory(), f"j{secrets.token_hex(6)}"
    opened: dict[str, Callable[[], Rungs]] = {
        "memory": lambda: memory,
        "file": lambda: FileRungs(tmp_path / "rungs.jsonl"),
        "storage": lambda: StageStorage(artifacts, job, "rates"),
    }
    assert list(opened[kind]().record(1, 0, -3.25)) == [-3.25]
    assert sorted(opened[kind]().record(1, 7, float("-inf"))) == [float("-inf"), -3.25]
    assert sorted(opened[kind]().record(1, 7, 99.0)) == [float("-inf"), -3.25]  # the first word counts
    assert list(opened[kind]().record(2, 0, 1e-300)) == [1e-300]


class _Slow(StageStorage):
    """Holds every upload up until it is let go."""

    def __init__(self, stage: StageStorage) -> None:
        self.__dict__.update(stage.__dict__)
        self.go = threading.Event()
        self.steps: list[int] = []

    def put_checkpoint(self, trial: str, number: int, step: int, directory: Path, metrics: object):  # type: ignore[no-untyped-def]
        assert self.go.wait(30)
        self.steps.append(step)
        return super().put_checkpoint(trial, number, step, directory, {})


def test_uploads_take_the_newest_checkpoint_and_then_the_result(stage: StageStorage, tmp_path: Path) -> None:
    slow = _Slow(stage)
    uploads = TrialUploads(slow, 1, print)
    uploads.checkpoint(KEY, 1, written(tmp_path, 1), {})
    wait_for(lambda: not uploads._checkpoints, 10, "the first is not taken")
    for step in (2, 3, 4):
        uploads.checkpoint(KEY, step, written(tmp_path, step), {})
    uploads.result(KEY, Outcome(state="done", value=1.0, steps=4))
    assert stage.results() == {}
    slow.go.set()
    uploads.close()
    assert slow.steps == [1, 4]
    record = stage.results()[KEY].checkpoint
    assert record is not None
    assert stage.checkpoints() == {KEY: [(4, record.uri)]}  # the one before is deleted
    assert not list(tmp_path.iterdir())


def test_a_trial_that_had_only_its_last_word_left_keeps_its_checkpoint(stage: StageStorage, tmp_path: Path) -> None:
    """Killed between the last checkpoint and the result: the next process has nothing to write but the result."""
    stage.put_checkpoint(KEY, 1, 9, written(tmp_path, 9), {})
    ((_, uri),) = stage.checkpoints()[KEY]
    uploads = TrialUploads(stage, 2, print)
    uploads.resumed(KEY, stage.described(uri, 2))
    uploads.result(KEY, Outcome(state="done", value=1.0, steps=9))
    uploads.close()
    record = stage.results()[KEY].checkpoint
    assert record is not None
    assert (record.uri, record.step) == (uri, 9)


def test_storage_that_is_away_is_waited_for(stage: StageStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    said: list[str] = []
    kept = stage.keep

    def keep(trial: str, record: TrialRecord) -> None:
        calls.append(trial)
        if len(calls) < 3:
            raise UnavailableError("away")
        kept(trial, record)

    monkeypatch.setattr(stage, "keep", keep)
    uploads = TrialUploads(stage, 1, said.append)
    uploads.result(KEY, Outcome(state="failed", error="bang"))
    uploads.close()
    assert len(calls) == 3
    assert said == [f"what trial {KEY} has left waits: away", f"what trial {KEY} has left is on its way again"]
    assert json.loads(stage.results()[KEY].model_dump_json())["error"] == "bang"
