"""Pictures of one style: labelled, the same bytes from the same numbers, and nobody's settings change them."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image

from vae_models.evaluation.pictures import style
from vae_models.metrics import pictures


def line(axes: Axes) -> None:
    axes.plot([0, 1, 2], [3.0, 1.0, 2.0], "o-", label="a model")
    axes.fill_between([0, 1, 2], [2, 0, 1], [4, 2, 3], alpha=0.2)
    axes.set_xlabel("rate [nats per datum]")
    axes.set_ylabel("distortion [nats per datum]")
    axes.legend()


def texts(svg: bytes) -> list[str]:
    return [
        "".join(found.itertext()).strip() for found in ElementTree.fromstring(svg).iter() if found.tag.endswith("}text")
    ]


def test_a_plot_is_the_same_bytes_whatever_the_users_settings_are() -> None:
    before = style.plot("curve", line, caption="One line.")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "path", "figure.dpi": 20}):
        after = style.plot("curve", line, caption="One line.")
        assert matplotlib.rcParams["font.size"] == 30
    assert before == after
    assert before.svg is not None
    assert {"rate [nats per datum]", "distortion [nats per datum]", "a model"} <= set(texts(before.svg))
    assert style.PALETTE[0].lower().encode() in before.svg
    with Image.open(io.BytesIO(before.png)) as image:
        assert image.size == (5 * style.PIXELS_PER_INCH, 3.5 * style.PIXELS_PER_INCH)
        assert not image.info.keys() & {"Software", "Creation Time"}


def test_no_file_says_when_or_by_what_it_was_made() -> None:
    svg = style.plot("curve", line).svg
    assert svg is not None
    assert b"metadata" not in svg
    assert b"Matplotlib" not in svg


@pytest.mark.parametrize("forget", ["set_xlabel", "set_ylabel"])
def test_an_axis_without_a_label_is_refused(forget: str) -> None:
    def draw(axes: Axes) -> None:
        line(axes)
        getattr(axes, forget)("")

    with pytest.raises(ValueError, match="the picture curve has an axis without a label"):
        style.plot("curve", draw)


def test_an_axis_without_ticks_needs_no_label() -> None:
    def draw(axes: Axes) -> None:
        axes.imshow([[0, 1], [1, 0]])
        axes.set_xticks([])
        axes.set_yticks([])

    assert style.plot("map", draw).svg is not None


def test_panels_stand_side_by_side() -> None:
    with Image.open(io.BytesIO(style.panels("two", [line, line], inches=(3, 2)).png)) as image:
        assert image.size == (6 * style.PIXELS_PER_INCH, 2 * style.PIXELS_PER_INCH)


def test_a_drawing_is_written_where_no_folder_is(tmp_path: Path) -> None:
    style.write_png(tmp_path / "new" / "a.png", lambda figure: line(figure.subplots()), (5.0, 3.5))
    assert (tmp_path / "new" / "a.png").read_bytes() == style.plot("curve", line).png


# --- grids ----------------------------------------------------------------------------------------------------------


def pixels(png: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


def test_labels_stand_beside_and_above_the_same_tiles() -> None:
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    bare = pixels(style.grid("bare", images, 3).png)
    labelled = pixels(style.grid("labelled", images, 3, row_labels=["x", "E[x|z]"], column_labels=["1", "2", "3"]).png)
    height, width = bare.shape[:2]
    np.testing.assert_array_equal(labelled[-height:, -width:], bare)
    above, beside = labelled[:-height, -width:], labelled[-height:, :-width]
    for column in range(3):  # text is in the middle of its column, and nowhere else
        left = pictures.PADDING_PIXELS + column * (64 + pictures.PADDING_PIXELS)
        dark = np.flatnonzero((above[:, left : left + 64] < 128).any((0, 2)))
        assert 24 < dark.mean() < 40
    middles = [np.flatnonzero((half < 128).any((1, 2))).mean() for half in np.split(beside[2:-2], 2)]
    assert all(abs(middle - 32) < 6 for middle in middles)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row_labels": ["one"]}, "1 labels for 2 rows"),
        ({"column_labels": ["one"] * 4}, "4 labels for 3 columns"),
        ({"columns": 0}, "needs an image and a column: got 6 in 0 columns"),
        ({"images": torch.zeros(0, 1, 8, 8)}, "got 0 in 3 columns"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"images": torch.zeros(6, 1, 8, 8), "columns": 3}
    grid: Callable[..., object] = style.grid
    with pytest.raises(ValueError, match=message):
        grid("grid", **(given | change))


def test_a_film_of_many_colours_is_near_them_and_one_of_few_exact() -> None:
    few = torch.rand(3, 1, 1, 8, 8).mul(50).round().div(255)
    many = torch.rand(1, 1, 3, 64, 64)
    for frames, near in ((few, 0), (many, 20)):
        count = len(frames)
        gif = pictures.film(frames, 1, row_labels=[["x"]] * count, outlined=[()] * count)
        with Image.open(io.BytesIO(gif)) as image:
            for at in range(count):
                image.seek(at)
                shown = np.asarray(image.convert("RGB"))[2:-2, -66:-2].astype(int)
                wanted = frames[at, 0].mul(255).round().to(torch.uint8).repeat_interleave(64 // frames.shape[-1], 1)
                wanted = wanted.repeat_interleave(64 // frames.shape[-1], 2).permute(1, 2, 0).numpy().astype(int)
                assert np.abs(shown - wanted).mean() <= near


def test_a_film_of_grids_of_several_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match="are of one size"):
        pictures.film(torch.rand(2, 1, 1, 8, 8), 1, row_labels=[["x"], ["a longer label"]], outlined=[(), ()])
    with pytest.raises(ValueError, match="shorter"):
        pictures.film(torch.rand(2, 1, 1, 8, 8), 1, row_labels=[["x"]], outlined=[()])


def test_vectors_are_rows_of_pixels() -> None:
    assert pixels(style.grid("vectors", torch.zeros(4, 50), 1).png).shape == (4 * 66 + 2, 50 * 64 + 4)
