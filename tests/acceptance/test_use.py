"""A trained model in use on the command line, without a service: real processes on a tiny model of digits."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from tests import trained_models
from tests.command import RECIPE, vaesvc
from vae_models import data
from vae_models.data.config import DataConfig
from vae_models.trained import Trained

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `vaesvc run`, short."""
    import os

    folder = tmp_path_factory.mktemp("use") / "run"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAESVC_", "AWS_"))}
    env = kept | {"VAESVC_HOME": str(folder.parent / "home"), "VAESVC_CONFIG": "", "OMP_NUM_THREADS": "1"}
    short = ("steps=150", "checkpoint.every_steps=50", "evaluation.every_epochs=5", "evaluation.pictures=false")
    vaesvc(env, "run", RECIPE, "--out", str(folder), *(f"--set={each}" for each in short), seconds=180)
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> Trained:
    return Trained.load(run)


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    test = data.load(DataConfig(name="digits")).test
    assert test.labels is not None
    return test.x.numpy().astype(np.float32) / 255, test.labels.numpy()


def about(table: Any) -> Any:
    return json.loads(table.schema.metadata[b"vaesvc"])


def test_latents_of_a_split_are_a_table(
    env: dict[str, str], run: Path, model: Trained, digits: tuple[Any, Any], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "latents.parquet"
    assert vaesvc(env, "encode", str(run), "digits", "--out", str(out)).stdout == f"{out}\n"
    table, (x, labels) = pyarrow.parquet.read_table(out), digits
    mean, std = model.encode(x)
    names = [*(f"{what}_{j}" for what in ("mean", "std") for j in range(model.latent))]
    assert table.schema.names == ["index", *names, "label"]
    np.testing.assert_array_equal(table["label"].to_numpy(), labels)
    np.testing.assert_array_equal(table["index"].to_numpy(), np.arange(len(x)))
    np.testing.assert_allclose(
        np.stack([table[name].to_numpy() for name in names], 1), np.hstack([mean, std]), rtol=1e-5
    )
    assert about(table)["data"] == {"name": "digits", "digest": None, "split": "test"}
    assert list(out.parent.iterdir()) == [out]


def test_scores_tell_how_well_they_find_a_class(
    env: dict[str, str], run: Path, model: Trained, digits: tuple[Any, Any], tmp_path: Path
) -> None:
    out, (x, labels) = tmp_path / "scores.parquet", digits
    asked = ("--samples", "5", "--seed", "3", "--anomaly", "0", "--anomaly", "7")
    done = vaesvc(env, "score", str(run), "digits", "--out", str(out), *asked)
    table = pyarrow.parquet.read_table(out)
    expected, strange = model.score(x, samples=5, seed=3), np.isin(labels, [0, 7])
    np.testing.assert_allclose(table["nll_5"].to_numpy(), expected["nll"], rtol=1e-5)
    np.testing.assert_allclose(table["negative_elbo"].to_numpy(), -expected["elbo"], rtol=1e-5)
    np.testing.assert_array_equal(table["anomaly"].to_numpy(), strange)
    assert table.schema.field("nll_5").metadata == {b"unit": b"nats per datum"}
    assert f"Anomalies: {strange.sum()} of 250 data, those of digit 0, 7; the others are normal." in done.stderr
    measured = [line.split() for line in done.stdout.splitlines() if line.startswith("nll_5")]
    assert float(measured[0][1].replace(",", "")) == pytest.approx(expected["nll"].mean(), abs=1e-3)
    assert float(measured[1][1]) == pytest.approx(roc_auc_score(strange, expected["nll"]), abs=1e-4)
    assert float(measured[1][2]) == pytest.approx(average_precision_score(strange, expected["nll"]), abs=1e-4)


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_samples_ways_and_walks_are_numbers_and_pictures(
    env: dict[str, str], run: Path, model: Trained, digits: tuple[Any, Any], tmp_path: Path
) -> None:
    (x, _), place = digits, str(run)

    def made(*arguments: str, name: str = "out.npz") -> Path:
        out = tmp_path / name
        assert vaesvc(env, *arguments, "--out", str(out)).stdout == f"{out}\n"
        return out

    drawn = arrays(made("sample", place, "--count", "5", "--seed", "2", "--temperature", "0.5"))
    np.testing.assert_allclose(drawn["x"], model.sample(5, seed=2, temperature=0.5), rtol=1e-5)
    assert json.loads(str(drawn["about"]))["temperature"] == 0.5
    ways = arrays(made("interpolate", place, "digits", "--pair", "4:9", "--steps", "3", "--how", "slerp"))
    np.testing.assert_allclose(ways["mean"], model.interpolate(x[[4]], x[[9]], steps=3, how="slerp"), atol=1e-5)
    walk = arrays(made("traverse", place, "digits", "--index", "2", "--dimension", "1", "--steps", "3"))
    np.testing.assert_allclose(walk["mean"], model.traverse(x[[2]], dimensions=[1], steps=3).means[0], atol=1e-5)
    rebuilt = arrays(made("reconstruct", place, "digits", "--limit", "9"))
    np.testing.assert_allclose(rebuilt["mean"], model.reconstruct(x[:9]), atol=1e-5)
    picture = Image.open(io.BytesIO(made("traverse", place, "digits", name="walk.png").read_bytes()))
    assert picture.width > 9 * 64
    assert picture.height > 8 * 64


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("encode", "RUN", "mnist", "--out", "OUT.parquet"), "shape 1 x 28 x 28, and this model takes 1 x 8 x 8"),
        (("encode", "RUN", "digitz", "--out", "OUT.parquet"), "there is no data set 'digitz'; did you mean digits?"),
        (("encode", "RUN", "digits", "--out", "OUT.csv"), "its name must end in .parquet or .npz"),
        (("encode", "RUN", "digits", "--beta", "2", "--out", "OUT.npz"), "this model is of one beta: leave it out"),
        (("encode", "no/model", "digits", "--out", "OUT.npz"), "there is no folder no/model"),
        (("encode", "tests", "digits", "--out", "OUT.npz"), "tests holds no model: it has no manifest.json"),
        (("score", "RUN", "digits", "--samples", "0", "--out", "OUT.parquet"), "samples 0 given"),
        (("score", "RUN", "digits", "--anomaly", "x", "--out", "OUT.parquet"), "--anomaly x: there is no such digit"),
        (
            ("interpolate", "RUN", "digits", "--pair", "0:250", "--out", "OUT.npz"),
            "--pair 250: the test split of digits",
        ),
        (("sample", "RUN", "--code", "trust", "--out", "OUT.npz"), "--code trust is of registered models"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    env: dict[str, str], run: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    told = [each.replace("RUN", str(run)).replace("OUT", str(tmp_path / "out")) for each in arguments]
    done = vaesvc(env, *told, code=2)
    assert words in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.glob("*out*"))


def test_a_set_of_ones_own_has_no_labels(env: dict[str, str], run: Path, tmp_path: Path) -> None:
    """A path, as `vaesvc run --data` takes it; anomalies need labels."""
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8))
    place, out = str(tmp_path / "mine.npy"), tmp_path / "latents.parquet"
    vaesvc(env, "encode", str(run), place, "--split", "train", "--out", str(out))
    table = pyarrow.parquet.read_table(out)
    assert table.num_rows == 32
    assert "label" not in table.schema.names
    done = vaesvc(env, "score", str(run), place, "--anomaly", "1", "--out", str(tmp_path / "scores.parquet"), code=2)
    assert "--anomaly: mine has no labels" in done.stderr
    assert not list(tmp_path.glob("*scores*"))


def test_the_documents_python_runs_as_it_stands(env: dict[str, str], run: Path, tmp_path: Path) -> None:
    """docs/models.md: a model in Python with torch alone, then its programs."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "models.md").read_text(), re.DOTALL)
    used, programs = blocks
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits").symlink_to(run)
    vaesvc(env, "export", str(run), "--out", str(tmp_path / "programs"))
    shown = "\nprint(samples.shape, mean.shape, std.shape, ways.shape, walk.means.shape, sorted(scores))"
    for code, words in (
        (
            used + shown,
            "(16, 1, 8, 8) (16, 16) (16, 16) (8, 5, 1, 8, 8) (1, 3, 7, 1, 8, 8) ['distortion', 'elbo', 'nll',",
        ),
        (programs + "\nprint(list(mean.shape), list(means.shape))", "[3, 16] [3, 1, 8, 8]"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=env | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout.startswith(words), done.stdout + done.stderr


def test_a_card_has_what_was_evaluated_and_samplers_what_was_fitted(
    env: dict[str, str], run: Path, digits: tuple[Any, Any], tmp_path: Path
) -> None:
    """In the run's folder, as `vaesvc evaluate` leaves it there."""
    asked = ("--evaluator", "likelihood", "--evaluator", "samplers", "--sampler", "gmm-3")
    vaesvc(env, "evaluate", str(run), *asked, seconds=180)
    lines = vaesvc(env, "card", str(run)).stdout.splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| test/elbo |")]
    (elbo,) = [row for row in rows if len(row) == 5]  # the other was measured while it was trained
    assert elbo[3:] == ["nats per datum of a density", "250"]
    assert 0 < float(elbo[2]) < abs(float(elbo[1]))
    made = tmp_path / "samples.npz"
    vaesvc(env, "sample", str(run), "--sampler", "gmm-3", "--count", "4", "--out", str(made))
    np.testing.assert_allclose(arrays(made)["x"], Trained.load(run).sample(4, sampler="gmm-3"), atol=1e-5)


def test_a_damaged_model_is_not_used(env: dict[str, str], tmp_path: Path) -> None:
    folder = trained_models.pulled(tmp_path / "model", trained_models.config_of())
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    done = vaesvc(env, "sample", str(folder), "--out", str(tmp_path / "x.npz"), code=1)
    assert "model.safetensors is not what was stored: expected SHA-256" in done.stderr
