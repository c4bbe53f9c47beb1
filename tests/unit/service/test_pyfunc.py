"""What a registered model takes: data of the kind that it was trained on, and of its shape."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service import pyfunc
from service.errors import StorageError
from vae_models.recipes import catalogue
from vae_models.trained import Trained, checks
from vae_models.training import checkpoint as checkpoints


def loaded(folder: Path, recipe: str) -> tuple[Trained, Any]:
    """A model's directory as a checkpoint makes it, through the loader that MLmodel names; and some data of it."""
    config = catalogue()[recipe].build()
    shape = config.data.facts.shape
    torch.manual_seed(0)
    state = {"data_shape": shape}
    checkpoints.write(
        folder,
        step=1,
        config=config,
        model=config.model.build(shape).state_dict(),
        training={},
        state=state,
        metrics={},
    )
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"data_shape": shape}))
    return pyfunc._load_pyfunc(str(folder)), np.random.default_rng(0).normal(size=(3, *shape))


@pytest.mark.parametrize("recipe", ["cmu-motion/vhp", "mnist/noise-spatial-iso-i"])
def test_fault_08_a_model_of_reals_takes_reals(recipe: str, tmp_path: Path) -> None:
    """Joint angles, and images with noise: x outside [0, 1] was refused, so nothing of its data could be predicted."""
    model, x = loaded(tmp_path / "model", recipe)
    assert x.min() < 0
    assert x.max() > 1
    made = model.predict(x)
    assert made.shape == x.shape
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(model.predict(x.reshape(3, -1)), made)
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or infinite values"):
            model.predict(np.where(x == x.max(), wrong, x))


def test_fault_08_a_model_of_images_still_takes_the_unit_interval_alone(tmp_path: Path) -> None:
    model, x = loaded(tmp_path / "model", "digits/beta-vae-mlp")
    with pytest.raises(ValueError, match="divide bytes by 255"):
        model.predict(x)
    assert model.predict(np.abs(x) / np.abs(x).max()).shape == x.shape


def test_tokens_are_whole_numbers_of_the_vocabulary() -> None:
    np.testing.assert_array_equal(checks.tokens(np.array([[0.0, 6.0]]), 7), [[0, 6]])
    for wrong in (-1.0, 7.0, 0.5):
        with pytest.raises(ValueError, match="whole numbers from 0 to 6"):
            checks.tokens(np.array([[wrong]]), 7)


def test_what_is_no_number_or_has_another_shape_is_refused_with_what_is_taken(tmp_path: Path) -> None:
    model, _ = loaded(tmp_path / "model", "digits/beta-vae-mlp")
    with pytest.raises(ValueError, match=r"takes \[n, 64\] or \[n, 1, 8, 8\] \(channel, height, width\)"):
        model.predict(np.zeros((2, 8, 8)))
    with pytest.raises(ValueError, match="this model takes numbers"):
        model.predict(np.array([["a"] * 64]))


def test_a_model_of_another_version_is_said(tmp_path: Path) -> None:
    loaded(tmp_path / "model", "digits/beta-vae-mlp")
    config, manifest = tmp_path / "model" / "config.json", tmp_path / "model" / "manifest.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hyperdrive": True}))
    listed = json.loads(manifest.read_text())
    listed["files"]["config.json"]["sha256"] = hashlib.sha256(config.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(listed))
    with pytest.raises(StorageError, match=r"not understood by .*vaesvc \(hyperdrive: .*made by another version"):
        pyfunc.load_directory(tmp_path / "model")
