"""Grids: every pixel where it belongs."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vae_models.metrics import pictures


def decode(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def tile(canvas: NDArray[np.uint8], row: int, column: int, height: int, width: int) -> NDArray[np.uint8]:
    gap = pictures.PADDING_PIXELS
    top, left = gap + row * (height + gap), gap + column * (width + gap)
    return canvas[top : top + height, left : left + width]


def test_originals_stand_over_their_reconstructions() -> None:
    originals = torch.linspace(0, 1, 20).view(20, 1, 1, 1).expand(20, 1, 32, 32)
    means = originals.flip(0)
    canvas = decode(pictures.reconstructions(originals, means))
    assert canvas.shape == (4 * 66 + 2, 16 * 66 + 2)  # 16 columns; 32 pixels are drawn at twice their size
    for index in range(20):
        row, column = 2 * (index // 16), index % 16
        assert (tile(canvas, row, column, 64, 64) == round(255 * index / 19)).all()
        assert (tile(canvas, row + 1, column, 64, 64) == round(255 * (19 - index) / 19)).all()
    assert (tile(canvas, 2, 4, 64, 64) == pictures.PAPER).all()  # the second row of pairs has only four
    assert (canvas[:2] == pictures.PAPER).all()
    assert (canvas[:, :2] == pictures.PAPER).all()


def test_pairs_of_rows_are_as_wide_as_asked() -> None:
    x = torch.zeros(7, 1, 64, 64)
    assert decode(pictures.reconstructions(x, x, columns=3)).shape == (6 * 66 + 2, 3 * 66 + 2)
    assert decode(pictures.reconstructions(x, x, columns=9)).shape == (2 * 66 + 2, 7 * 66 + 2)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 20),
    channels=st.integers(1, 5),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    columns=st.none() | st.integers(1, 20),
)
def test_any_number_shape_and_channels(n: int, channels: int, height: int, width: int, columns: int | None) -> None:
    images = torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(n))
    canvas = decode(pictures.samples(images, columns))
    scale = max(1, round(pictures.TILE_PIXELS / height))
    side_by_side = 1 if channels in (1, 3) else channels
    columns = columns or int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    gap = pictures.PADDING_PIXELS
    size = (rows * (height * scale + gap) + gap, columns * (width * side_by_side * scale + gap) + gap)
    assert canvas.shape == (*size, 3) if channels == 3 else size
    expected = np.rint(images[-1].double().numpy() * 255).astype(np.uint8)
    expected = expected.transpose(1, 2, 0) if channels == 3 else np.concatenate(list(expected), axis=1)
    expected = expected.repeat(scale, 0).repeat(scale, 1)
    found = tile(canvas, (n - 1) // columns, (n - 1) % columns, height * scale, width * side_by_side * scale)
    np.testing.assert_array_equal(found, expected)


def test_values_outside_the_scale_are_clipped_and_nan_is_black() -> None:
    images = torch.tensor([-3.0, 0.5, 7.0, torch.nan, torch.inf]).view(5, 1, 1, 1)
    canvas = decode(pictures.samples(images, columns=5))
    assert [int(tile(canvas, 0, column, 64, 64)[0, 0]) for column in range(5)] == [0, 128, 255, 0, 255]


def test_the_same_images_give_the_same_bytes_and_need_no_gradient() -> None:
    images = torch.rand(3, 3, 8, 8, requires_grad=True)
    assert pictures.samples(images) == pictures.samples(images)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        pictures.samples(torch.zeros(0, 1, 8, 8))
    with pytest.raises(ValueError, match=r"\[2, 1, 8, 8\] and \[3, 1, 8, 8\]"):
        pictures.reconstructions(torch.zeros(2, 1, 8, 8), torch.zeros(3, 1, 8, 8))
