"""Predictions to look at: curves over time, strips of frames, and the same in motion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from vae_models.evaluation.averages import standard_error
from vae_models.evaluation.findings import Picture
from vae_models.evaluation.pictures import style
from vae_models.evaluation.prediction.predictions import GRADIENT, METRICS, Asked, best
from vae_models.evaluation.subject import Rows, Subject
from vae_models.metrics.pictures import film

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = {"ssim": "SSIM [1]", "psnr": "PSNR [dB]", GRADIENT: "gradient [1/pixel]"}
TRUTH, BEST, ANY = "x", "best", "any"  # rows of a video: the truth, its best sample, and its first
FIGURE_SPACE = "\u2007"  # as wide as a digit


def curves(curves: Mapping[str, Float64[Tensor, "data frames"]], asked: Asked, name: str) -> Picture:
    """Return each metric over the frames that are predicted, with twice its standard error over videos as a band."""
    draws = []
    for metric in AXES:
        lines = {each.partition("/")[2]: curves[each] for each in curves if each.startswith(metric)}
        if lines:
            draws.append(partial(_metric, lines, metric, asked))
    caption = (
        f"Predictions of {len(next(iter(curves.values()))):,} videos after {asked.context} frames: of the best of "
        f"{asked.samples} samples by its mean over frames, of the mean over samples, and of the last frame that was "
        "seen, repeated. Gradient: how sharp frames are. Bands: twice the standard error over videos."
    )
    return style.panels(name, draws, caption=caption)


def _metric(lines: Mapping[str, Tensor], metric: str, asked: Asked, axes: Axes) -> None:
    numbers = list(range(asked.context + 1, asked.context + asked.frames + 1))
    for label, each in lines.items():
        center = each.mean(0)
        (line,) = axes.plot(numbers, center.tolist(), "o-" if len(numbers) < 20 else "-", label=label.replace("_", " "))
        errors = [standard_error(frame) for frame in each.T]
        if None not in errors:
            spread = 2 * torch.tensor(errors, dtype=torch.float64)
            low, high = (center - spread).tolist(), (center + spread).tolist()
            axes.fill_between(numbers, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set_xlabel("frame")
    axes.set_ylabel(AXES[metric])
    axes.legend()


def videos(subject: Subject, asked: Asked, each: Mapping[str, Tensor], *, shown: int) -> tuple[Picture, ...]:
    """Return the first videos as a strip, a row of frames for the truth, the best sample and any; and in motion.

    The best is by SSIM, or by PSNR of small frames. Frames that are seen have a line around them.
    """
    metric = next(name for name in METRICS if name in each)
    rows = _rows(subject, asked, best(each[metric])[:shown])
    count, time = rows[TRUTH].shape[:2]
    strip = torch.stack([rows[name] for name in (TRUTH, BEST, ANY)], dim=1).flatten(0, 2)  # video, row, time
    said = f"{BEST} of {asked.samples} by {metric.upper()}"
    caption = (
        f"The first {count} videos: the truth x, the {said}, and one sample. {asked.context} frames with a line around "
        f"them are seen, {asked.frames} are predicted."
    )
    numbers = [str(frame) for frame in range(1, time + 1)]
    seen = [number for number in range(len(strip)) if number % time < asked.context]
    moving = torch.stack([rows[name] for name in (TRUTH, BEST, ANY)]).permute(2, 0, 1, 3, 4, 5).flatten(1, 2)
    gif = film(
        moving, count, row_labels=list(_moments(asked)),
        outlined=[range(3 * count if frame < asked.context else 0) for frame in range(time)],
        column_labels=[str(number) for number in range(1, count + 1)],
    )  # fmt: skip
    return (
        style.grid(
            "prediction", strip, time, caption=caption, row_labels=[TRUTH, BEST, ANY] * count, column_labels=numbers,
            group=3, outlined=seen, gif=gif,
        ),
    )  # fmt: skip


def _moments(asked: Asked) -> Iterator[list[str]]:
    """Yield the labels of a film's rows at each time, of one width."""
    last = asked.context + asked.frames
    width = len(str(last))
    for frame in range(1, last + 1):
        yield [f"{TRUTH}, frame {str(frame).rjust(width, FIGURE_SPACE)} of {last}", BEST, ANY]


def _rows(subject: Subject, asked: Asked, chosen: Tensor) -> dict[str, Tensor]:
    """Return the first videos [n, time, channels, height, width]: the truth, and what is predicted by the sample that
    is chosen of each, and by the first, after the frames that are seen.
    """

    def one(rows: Rows) -> dict[str, Tensor]:
        seen, (number,) = rows.x[:, : asked.context], rows.indices.tolist()
        each = {
            TRUTH: asked.truth(subject, rows),
            BEST: asked.predict(subject, rows, int(chosen[number]), None),
            ANY: asked.predict(subject, rows, 0, None),
        }
        return {name: torch.cat([seen, frames], dim=1) for name, frames in each.items()}

    return subject.map(one, what="predictions shown", first=len(chosen), batch_size=1)
