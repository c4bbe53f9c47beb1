"""One suite for every way to a trained model: a checkpoint, a run, a pulled folder, and MLflow's pyfunc on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service import pyfunc
from tests import trained_models
from vae_models.trained import Trained
from vae_models.training import checkpoint as checkpoints

Ask = Callable[..., Any]  # (task, given, **settings) -> what the model makes of it


def by_methods(model: Trained) -> Ask:
    """The Python methods, in the form that `predict` returns."""

    def ask(task: str, given: Any, **told: Any) -> Any:
        if task == "sample":
            return model.sample(told.pop("count"), **told)
        if task == "interpolate":
            return model.interpolate(given[::2], given[1::2], **told)
        made = getattr(model, task)(given, **told)
        return made._asdict() if hasattr(made, "_asdict") else made

    return ask


def by_predict(model: Any) -> Ask:
    return lambda task, given, **told: model.predict(given, params={"task": task, **told})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    config, folder = trained_models.config_of(), tmp_path_factory.mktemp("models")
    kinds = {"checkpoint": trained_models.checkpoint, "run": trained_models.run, "pulled": trained_models.pulled}
    return {name: make(folder / name, config) for name, make in kinds.items()}


@pytest.fixture(scope="module", params=["checkpoint", "run", "pulled", "loader", "mlflow"])
def ask(request: pytest.FixtureRequest, folders: Mapping[str, Path]) -> Ask:
    if request.param == "loader":
        return by_predict(pyfunc.load_directory(folders["pulled"]))
    if request.param == "mlflow":
        import mlflow.pyfunc

        return by_predict(mlflow.pyfunc.load_model(str(folders["pulled"])))
    return by_methods(Trained.load(folders[request.param]))


@pytest.fixture(scope="module")
def model(folders: Mapping[str, Path]) -> Any:
    """The network itself."""
    return checkpoints.load_model(folders["checkpoint"])[0]


@pytest.fixture(scope="module")
def x() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((6, 1, 8, 8), dtype=np.float32)


def test_reconstructions_are_the_networks_at_the_mean(ask: Ask, model: Any, x: NDArray[np.float32]) -> None:
    """To the bit, as registered models always gave them."""
    with torch.inference_mode():
        expected = model(torch.from_numpy(x), {"z": torch.zeros(6, model.latent)}).mean.numpy()
    np.testing.assert_array_equal(ask("reconstruct", x), expected)


def test_encodings_are_the_networks(ask: Ask, model: Any, x: NDArray[np.float32]) -> None:
    with torch.inference_mode():
        encoding = model.encode(torch.from_numpy(x))
    found = ask("encode", x)
    np.testing.assert_array_equal(found["mean"], encoding.mean.numpy())
    np.testing.assert_array_equal(found["std"], encoding.log_std.exp().numpy())
    np.testing.assert_array_equal(ask("decode", found["mean"]), ask("reconstruct", x))


def test_samples_follow_from_the_seed(ask: Ask, folders: Mapping[str, Path]) -> None:
    expected = Trained.load(folders["checkpoint"]).sample(5, seed=3, temperature=0.5, form="samples")
    given = np.zeros((0, 64))
    found = ask("sample", given, count=5, seed=3, temperature=0.5, form="samples")
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found - ask("sample", given, count=5, seed=3, temperature=0.5)).max() > 0.01  # than their means
    assert not np.array_equal(ask("sample", given, count=5, seed=4, temperature=0.5, form="samples"), expected)


def test_scores_are_the_same_everywhere(ask: Ask, folders: Mapping[str, Path], x: NDArray[np.float32]) -> None:
    expected = Trained.load(folders["checkpoint"]).score(x, samples=4, seed=2)
    found = ask("score", x, samples=4, seed=2)
    assert set(found) == {"elbo", "nll", "rate", "distortion"}
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    np.testing.assert_allclose(found["elbo"], -(found["rate"] + found["distortion"]), rtol=1e-12)


def test_ways_begin_and_end_at_the_reconstructions(ask: Ask, x: NDArray[np.float32]) -> None:
    made = ask("reconstruct", x)
    for how in ("linear", "slerp"):
        ways = ask("interpolate", x, steps=5, how=how)
        assert ways.shape == (3, 5, 1, 8, 8)
        np.testing.assert_allclose(ways[:, [0, -1]], made.reshape(3, 2, 1, 8, 8), atol=1e-6)


def test_traversals_pass_their_values(ask: Ask, x: NDArray[np.float32]) -> None:
    found = ask("traverse", x[:2], top=3, steps=5)
    z = np.repeat(ask("encode", x[:2])["mean"][:, None], 5, axis=1)
    np.testing.assert_array_equal(found["values"], np.linspace(-3, 3, 5, dtype=np.float32))
    for place, dimension in enumerate(found["dimensions"]):
        moved = z.copy()
        moved[:, :, dimension] = found["values"]
        expected = ask("decode", moved.reshape(-1, z.shape[-1])).reshape(2, 5, 1, 8, 8)
        np.testing.assert_allclose(found["means"][:, place], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "settings", "words"),
    [
        ("encode", {}, r"shape \(6, 8\) given; this model takes \[n, 64\]"),
        ("score", {}, r"shape \(6, 8\) given"),
        ("decode", {}, r"latents of shape \(6, 8\) given; this model's z are \[n, 16\]"),
        ("reconstruct", {"beta": 2.0}, "this model is of one beta: leave it out"),
    ],
)
def test_what_is_wrong_is_told(
    ask: Ask, x: NDArray[np.float32], task: str, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        ask(task, x[:, 0, 0], **settings)
