"""What the commands that use a model share: files that are whole or not there, progress, and what goes together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from service.cli import data as data_command
from service.cli.use import files, source, work
from service.errors import StorageError, UsageError
from tests import trained_models
from vae_models.data.config import DataConfig
from vae_models.data.spec import DataSpec
from vae_models.trained import Trained


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.npz"

    def begin(then: type[BaseException]) -> None:
        with files.whole(path) as partial:
            partial.write_bytes(b"half")
            raise then

    with pytest.raises(KeyboardInterrupt):
        begin(KeyboardInterrupt)
    assert list(path.parent.iterdir()) == []
    files.write_bytes(path, b"first")
    with pytest.raises(ZeroDivisionError):
        begin(ZeroDivisionError)
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not use"):
        files.write_bytes(tmp_path / "file" / "x.png", b"")
    with pytest.raises(UsageError, match="is a folder; name a file"):
        files.suffix(Path(f"{tmp_path}/").with_suffix(""), "")


def test_a_table_says_what_it_is_of_and_its_units(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = [files.Column(name="nll", values=np.array([1.5, 2.5]), unit="nats per datum")]
    files.write_table(path, columns, {"model": "a/1"})
    table = pyarrow.parquet.read_table(path)
    assert json.loads(table.schema.metadata[b"vaesvc"]) == {"model": "a/1"}
    assert table.schema.field("nll").metadata == {b"unit": b"nats per datum"}
    assert table["nll"].to_pylist() == [1.5, 2.5]


def test_batches_are_put_together_and_progress_shows_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data_command, "LINE_SECONDS", 0.0)
    made = work.in_batches(lambda a, b: {"n": np.arange(a, b)}, 700, what="encoding", size=256)
    np.testing.assert_array_equal(made["n"], np.arange(700))
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "encoding 700 of 700 data  0:00:00 left"


def test_what_takes_less_than_two_seconds_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    work.in_batches(lambda a, b: {"n": np.arange(a, b)}, 3, what="encoding")
    assert capsys.readouterr().err == ""


# --- which data go with a model -------------------------------------------------------------------------------------

DIGEST = "0" * 64


def own(**facts: Any) -> DataConfig:
    spec: dict[str, Any] = {"shape": (1, 8, 8), "axes": ("channel", "height", "width"), "support": "bytes"}
    spec |= {"sizes": (10, 10, 10)} | facts
    return DataConfig(name="mine", digest=DIGEST, facts=DataSpec(**spec))


@pytest.fixture(scope="module")
def model() -> Trained:
    config = trained_models.config_of()
    return Trained(config.model.build((1, 8, 8)), config, (1, 8, 8))


@pytest.mark.parametrize("support", ["bits", "bytes", "unit"])
def test_numbers_from_0_to_1_go_with_a_model_of_bytes(model: Trained, support: str) -> None:
    source._check(model, own(support=support))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"shape": (1, 8, 9)}, "mine has data of shape 1 x 8 x 9, and this model takes 1 x 8 x 8 (vaesvc data add"),
        ({"shape": (64,), "axes": ("feature",)}, "of shape 64, and this model takes 1 x 8 x 8"),
        ({"support": "reals"}, "real numbers without bounds, and this model takes numbers in [0, 1] (bytes)"),
        ({"support": "tokens", "vocabulary": 9}, "mine has tokens of a vocabulary of 9, and this model takes bytes"),
    ],
)
def test_others_are_refused_before_any_is_read(model: Trained, facts: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        source._check(model, own(**facts))
    assert words in str(refused.value)
