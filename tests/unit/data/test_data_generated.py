from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from vae_models.data import generated
from vae_models.data.errors import DataCorrupt


def _bob_angle(images: np.ndarray) -> np.ndarray:
    """The direction from the middle of the picture to the centroid of its light, as the label counts it."""
    light = images.astype(float)
    rows, columns = np.meshgrid(np.arange(16) - 7.5, np.arange(16) - 7.5, indexing="ij")
    right = (light * columns).sum(axis=(1, 2))
    down = (light * rows).sum(axis=(1, 2))
    return np.arctan2(right, down)


def test_the_angle_can_be_read_off_the_picture() -> None:
    """OLS of the centroid's direction on the label: slope 1, little left over (the frame cuts some light off)."""
    angles = generated.pendulum_angles(7000)
    seen = _bob_angle(generated.render_pendulum(angles))
    seen = angles + np.angle(np.exp(1j * (seen - angles)))  # the same turn of the circle
    fit = stats.linregress(angles, seen)
    assert abs(fit.slope - 1) < 5e-3
    assert abs(fit.intercept) < 1e-3
    assert fit.rvalue**2 > 0.9998
    assert np.abs(seen - angles).max() < 0.04


def test_angles_cover_the_circle_evenly_in_every_stretch() -> None:
    angles = generated.pendulum_angles(7000)
    assert angles.min() >= -np.pi
    assert angles.max() < np.pi
    assert len(np.unique(angles)) == 7000
    for part in (angles[:5000], angles[5000:6000], angles[6000:]):
        distance = stats.kstest(part, stats.uniform(-np.pi, 2 * np.pi).cdf).statistic
        assert distance < 3 / len(part)  # random angles would be near 1 / sqrt(n)


def test_zero_hangs_down_and_positive_turns_counter_clockwise() -> None:
    down, right, up = generated.render_pendulum(np.array([0.0, np.pi / 2, np.pi]))
    bright = [{(int(row), int(column)) for row, column in np.argwhere(one == one.max())} for one in (down, right, up)]
    assert bright[0] == {(row, column) for row in (12, 13) for column in (7, 8)}  # rows grow downwards
    assert bright[1] == {(row, column) for row in (7, 8) for column in (12, 13)}
    assert bright[2] == {(row, column) for row in (2, 3) for column in (7, 8)}
    np.testing.assert_allclose(down, up[::-1].astype(float), atol=1)  # half levels round either way
    np.testing.assert_allclose(right, down.T.astype(float), atol=1)


def test_pictures_are_bytes_of_one_brightness() -> None:
    images = generated.render_pendulum(generated.pendulum_angles(500))
    assert images.dtype == np.uint8
    assert images.shape == (500, 16, 16)
    assert len(np.unique(images, axis=0)) == 500
    assert images.max(axis=(1, 2)).min() >= 245  # the bob is never out of the frame
    light = images.sum(axis=(1, 2), dtype=float)
    assert light.std() / light.mean() < 0.01


def test_a_plane_holds_most_of_the_pictures() -> None:
    """Of their variance the first two principal components, the sine and cosine of the angle, have 79%."""
    angles = generated.pendulum_angles(5000)
    pixels = generated.render_pendulum(angles).reshape(5000, -1) / 255
    scores, scale, _ = np.linalg.svd(pixels - pixels.mean(axis=0), full_matrices=False)
    share = scale**2 / (scale**2).sum()
    assert 0.785 < share[:2].sum() < 0.8
    circle = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    _, left, *_ = np.linalg.lstsq(scores[:, :2] * np.sqrt(5000), circle, rcond=None)
    assert left.sum() / 5000 < 1e-3


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    images, labels = generated.read_digits()
    theirs = load_digits()
    np.testing.assert_array_equal(labels, theirs.target)
    np.testing.assert_allclose(images / 255 * 16, theirs.images, atol=0.5 / 255 * 16)
    assert set(np.unique(images)) == {round(k * 255 / 16 + 1e-9) for k in range(17)}


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"1,2\n", mtime=0), gzip.compress(b"one,two\n", mtime=0)],
    ids=["empty", "no gzip", "too few", "no numbers"],
)
def test_fault_13a_a_spoilt_table_of_digits_is_named(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "datasets" / "data" / "digits.csv.gz"
    table.parent.mkdir(parents=True)
    table.write_bytes(content)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(DataCorrupt, match=r"digits: .*digits\.csv\.gz is"):
        generated.read_digits()
