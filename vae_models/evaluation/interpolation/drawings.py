"""What ways look like: their pictures, and, of a latent of two dimensions, where they go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from vae_models.evaluation.findings import Picture
from vae_models.evaluation.interpolation.ways import Ways
from vae_models.evaluation.pictures import shown, style
from vae_models.evaluation.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def strips(subject: Subject, decoded: Mapping[str, list[Tensor | None]], count: int) -> tuple[Picture, ...]:
    """Return the pictures of ways of the first pairs that all ways connect, each pair's under one another.

    Where the graph connects no pair, only the others are shown.
    """
    hows = [how for how, pictures in decoded.items() if any(each is not None for each in pictures)]
    pairs = zip(*(decoded[how] for how in hows), strict=True)
    whole = [[each for each in pair if each is not None] for pair in pairs if all(each is not None for each in pair)]
    rows = [each for pair in whole[:count] for each in pair]
    if not rows:
        return ()
    shares = [f"{step / (len(rows[0]) - 1):.2g}" for step in range(len(rows[0]))]
    caption = (
        "Pictures at equal distances in z between the posterior means of pairs of data: along a line, a great circle, "
        "and the shortest way over a graph by the decoder's metric."
    )
    over = "share of the way through z [1]"
    return (
        shown.rows(
            "interpolation", subject.config, rows, hows * (len(rows) // len(hows)), column_labels=shares,
            column_name=over, group=len(hows), caption=caption,
        ),
    )  # fmt: skip


def plane(every_way: Ways, count: int) -> tuple[Picture, ...]:
    """Return where lines and shortest ways go, over the graph's nodes; nothing where z is no plane."""
    if every_way.nodes.shape[1] != 2 or count == 0:
        return ()

    def draw(axes: Axes) -> None:
        axes.plot(*every_way.nodes.T.numpy(), ".", color="0.7", ms=3, label="nodes: samples of z", rasterized=True)
        for pair, (line, way) in enumerate(
            zip(every_way.corners["linear"][:count], every_way.corners["graph"], strict=False)
        ):
            color = style.PALETTE[pair % len(style.PALETTE)]
            for corners, dashes, text in ((line, "--", "line"), (way, "-", "shortest way")):
                if corners is not None:
                    axes.plot(*corners.T.numpy(), dashes, color=color, label=text if pair == 0 else None)
        axes.set_xlabel("z, first dimension [1]")
        axes.set_ylabel("z, second dimension [1]")
        axes.set_aspect("equal", adjustable="datalim")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)

    caption = "Lines and the shortest ways by the decoder's metric between the posterior means of pairs of data."
    return (style.plot("interpolation-plane", draw, caption=caption, inches=(5, 5)),)
