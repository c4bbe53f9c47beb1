from __future__ import annotations

import numpy as np
from scipy import stats

from vae_models.data import generated


def _bob_angle(images: np.ndarray) -> np.ndarray:
    """The direction from the middle of the picture to the centroid of its light, as the label counts it."""
    light = images.astype(float)
    rows, columns = np.meshgrid(np.arange(16) - 7.5, np.arange(16) - 7.5, indexing="ij")
    right = (light * columns).sum(axis=(1, 2))
    down = (light * rows).sum(axis=(1, 2))
    return np.arctan2(right, down)


def test_the_angle_can_be_read_off_the_picture() -> None:
    """OLS of the centroid's direction on the label: slope 1, nothing left over."""
    angles = generated.pendulum_angles(7000)
    seen = _bob_angle(generated.render_pendulum(angles))
    seen = angles + np.angle(np.exp(1j * (seen - angles)))  # the same turn of the circle
    fit = stats.linregress(angles, seen)
    assert abs(fit.slope - 1) < 1e-3
    assert abs(fit.intercept) < 1e-3
    assert fit.rvalue**2 > 0.99999
    assert np.abs(seen - angles).max() < 0.02


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
    assert down[12, 7] == down[12, 8] == 255  # rows grow downwards
    assert right[7, 12] == right[8, 12] == 255
    assert up[3, 7] == up[3, 8] == 255
    np.testing.assert_allclose(down, up[::-1].astype(float), atol=1)  # half levels round either way
    np.testing.assert_allclose(right, down.T.astype(float), atol=1)


def test_pictures_are_bytes_of_one_brightness() -> None:
    images = generated.render_pendulum(generated.pendulum_angles(500))
    assert images.dtype == np.uint8
    assert images.shape == (500, 16, 16)
    light = images.sum(axis=(1, 2), dtype=float)
    assert light.std() / light.mean() < 0.01  # nothing is cut off at the border at any angle
    assert images[:, 0].max() == images[:, -1].max() == 0


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    images, labels = generated.read_digits()
    theirs = load_digits()
    np.testing.assert_array_equal(labels, theirs.target)
    np.testing.assert_allclose(images / 255 * 16, theirs.images, atol=0.5 / 255 * 16)
    assert set(np.unique(images)) == {round(k * 255 / 16 + 1e-9) for k in range(17)}
